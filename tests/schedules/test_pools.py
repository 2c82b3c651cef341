"""Which named limits a session is in."""

import pytest

from schedules.models import Pool
from schedules.pools import is_of, pools_of

WIDE = Pool(pk=1, name="wide", places=9)
ASKED = Pool(pk=2, name="asked", places=9, provider="anthropic")
DEAR = Pool(pk=3, name="dear", places=9, model="claude-opus-*")


@pytest.mark.parametrize(
    ("pattern", "model", "is_one"),
    [
        ("claude-opus-4-5", "claude-opus-4-5", True),
        ("claude-opus-*", "claude-opus-4-5", True),
        ("claude-opus-*", "Claude-Opus-4-5-20260101", True),
        ("claude-opus-*", "opus", True),
        ("opus", "claude-opus-4-5", True),
        ("*", "gpt-5.5", True),
        ("gpt-5.5", "gpt-535", False),
        ("claude-opus-*", "claude-sonnet-5-5", False),
        ("claude-opus-*", "sonnet", False),
        ("claude-opus-*", "claude", False),
        ("opus", "octopus", False),
        ("claude-opus-*", "", False),
        ("", "opus", False),
    ],
)
def test_a_model_is_of_a_pattern(pattern: str, model: str, is_one: bool) -> None:
    assert is_of(pattern, model) is is_one


@pytest.mark.parametrize(
    ("named", "credential", "model", "is_rehearsal", "found"),
    [
        ([1], "", "", False, [WIDE]),
        ([], "anthropic", "haiku", False, [ASKED]),
        ([1], "anthropic/KEY", "opus", False, [WIDE, ASKED, DEAR]),
        ([], "anthropic-eu", "haiku", False, []),
        ([], "", "opus", True, []),
        ([3], "", "opus", True, [DEAR]),
    ],
)
def test_a_session_is_in_the_pools_that_are_named_and_those_of_its_provider_and_model(
    named: list[int], credential: str, model: str, is_rehearsal: bool, found: list[Pool]
) -> None:
    pools = pools_of([WIDE, ASKED, DEAR], named=named, credential=credential, model=model, is_rehearsal=is_rehearsal)
    assert list(pools) == found
