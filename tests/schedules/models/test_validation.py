"""What a schedule says of its sandbox has to agree with itself."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from schedules.models import Schedule

pytestmark = pytest.mark.django_db

SCRIPT: dict[str, Any] = {"name": "report", "runner": "script", "argv": ["true"]}
BOXED: dict[str, Any] = {**SCRIPT, "sandbox": "bubblewrap"}
LISTED: dict[str, Any] = {**BOXED, "network": "allow_list"}


@pytest.mark.parametrize(
    "fields",
    [
        BOXED,
        {**BOXED, "network": "none"},
        {**LISTED, "allowed_hosts": ["api.example.com", "*.example.com", "forge.example.com:8443"]},
    ],
)
def test_a_sandbox_that_holds_together_is_fine(fields: dict[str, Any]) -> None:
    Schedule(**fields).full_clean()


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({**SCRIPT, "sandbox": "docker"}, "sandbox", "not a valid choice"),
        ({**BOXED, "network": "slow"}, "network", "not a valid choice"),
        ({**SCRIPT, "network": "none"}, "network", "Only a sandbox can keep a session from the network"),
        (LISTED, "allowed_hosts", "Name at least one host"),
        ({**BOXED, "allowed_hosts": ["a.test"]}, "allowed_hosts", "They would not be heeded"),
        ({**LISTED, "allowed_hosts": "a.test"}, "allowed_hosts", "Give a JSON list of texts"),
        (
            {**LISTED, "allowed_hosts": ["a.test", "https://b.test"]},
            "allowed_hosts",
            "“https://b.test” is no host's name",
        ),
        ({**LISTED, "allowed_hosts": ["b.test:0"]}, "allowed_hosts", "a port is a number from 1 to 65535"),
    ],
)
def test_what_does_not_is_refused_at_its_field(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Schedule(**fields).full_clean()
    assert list(refused.value.message_dict) == [field]
    assert words in refused.value.message_dict[field][0]


def test_the_snapshot_of_a_run_knows_the_sandbox() -> None:
    snapshot = Schedule(**LISTED, allowed_hosts=["a.test"]).snapshot()
    assert (snapshot["sandbox"], snapshot["network"], snapshot["allowed_hosts"]) == (
        "bubblewrap",
        "allow_list",
        ["a.test"],
    )
