"""What a schedule says of its sandbox, and of what an agent is given, has to agree with itself."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from schedules.models import Schedule
from schedules.models.validation import schedule_problems

pytestmark = pytest.mark.django_db

SCRIPT: dict[str, Any] = {"name": "report", "runner": "script", "argv": ["true"]}
BOXED: dict[str, Any] = {**SCRIPT, "sandbox": "bubblewrap"}
LISTED: dict[str, Any] = {**BOXED, "network": "allow_list"}
AGENT: dict[str, Any] = {**LISTED, "runner": "claude", "argv": [], "prompt": "Do it.", "model": "haiku"}
WEB: dict[str, Any] = {"web": {"type": "http", "url": "https://mcp.example.com/mcp"}}


@pytest.mark.parametrize(
    "fields",
    [
        BOXED,
        {**BOXED, "network": "none"},
        {**LISTED, "allowed_hosts": ["api.example.com", "*.example.com", "forge.example.com:8443"]},
        {**AGENT, "network": "host"},
        {**AGENT, "allowed_hosts": ["api.anthropic.com"]},
        {
            **AGENT,
            "allowed_hosts": ["gate.example.com"],
            "environment": {"ANTHROPIC_BASE_URL": "https://gate.example.com"},
        },
        {**AGENT, "sandbox": "none", "network": "host"},
        {**AGENT, "sandbox": "none", "network": "host", "mcp_servers": WEB},
        {**AGENT, "allowed_hosts": ["api.anthropic.com", "*.example.com"], "mcp_servers": WEB},
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
        ({**AGENT, "network": "none"}, "network", "name api.anthropic.com there"),
        ({**AGENT, "allowed_hosts": ["forge.example.com"]}, "allowed_hosts", "add api.anthropic.com"),
        ({**AGENT, "runner": "codex", "allowed_hosts": ["a.test"]}, "allowed_hosts", "add api.openai.com"),
        (
            {**AGENT, "allowed_hosts": ["api.anthropic.com"], "mcp_servers": WEB},
            "allowed_hosts",
            "The MCP server web is at mcp.example.com: add mcp.example.com",
        ),
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


def test_where_the_worker_s_setting_has_the_model_that_host_is_wanted(settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_BASE_URL": "https://gate.example.com:8443"}
    with pytest.raises(ValidationError, match=r"add gate\.example\.com:8443"):
        Schedule(**AGENT, allowed_hosts=["api.anthropic.com"]).full_clean()
    Schedule(**AGENT, allowed_hosts=["gate.example.com:8443"]).full_clean()


def test_an_address_that_is_a_secret_is_not_guessed(settings: Settings) -> None:
    settings.ROTA_SECRETS = {"ANTHROPIC_BASE_URL": "https://gate.example.com"}
    Schedule(**AGENT, allowed_hosts=["gate.example.com"], secrets=["ANTHROPIC_BASE_URL"]).full_clean()


def test_a_rehearsal_goes_without_secrets_that_nobody_has_set() -> None:
    schedule = Schedule(**PLAIN, secrets=["DEPLOY_TOKEN"])
    assert schedule_problems(schedule)["secrets"] == [
        "There is no secret “DEPLOY_TOKEN”. Set it in the console, or with bin/manage secret set DEPLOY_TOKEN."
    ]
    assert schedule_problems(schedule, rehearsed=True) == {}


PLAIN: dict[str, Any] = {"name": "report", "runner": "claude", "prompt": "Do it.", "model": "haiku"}
FORGE: dict[str, Any] = {"forge": {"command": "forge-mcp", "env": {"TOKEN": "${FORGE_TOKEN}", "RUN": "${ROTA_RUN}"}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": FORGE, "environment": {"FORGE_TOKEN": "made-up"}},
        {"mcp_servers": {"web": {"type": "http", "url": "https://mcp.example.com/${PLACE:-all}"}}},
        {"plugins": ["tools/reviewer"], "setting_sources": ["project"]},
        {"plugins": ["/opt/plugins/reviewer"]},
        {"runner": "codex", "model": "gpt-6-luna", "json_schema": {"type": "object"}, "effort": "high"},
    ],
)
def test_what_an_agent_can_be_given(fields: dict[str, Any], settings: Settings) -> None:
    settings.ROTA_PLUGIN_FOLDERS = ["/opt/plugins"]
    schedule = Schedule(**{**PLAIN, **fields})
    schedule.full_clean()

    assert {name: schedule.options()[name] for name in fields if name in schedule.options()} == {
        name: value for name, value in fields.items() if name in schedule.options()
    }


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"mcp_servers": FORGE}, "mcp_servers", "FORGE_TOKEN: is neither in the schedule's environment nor one of its"),
        ({"mcp_servers": ["forge"]}, "mcp_servers", "Give a JSON object"),
        ({"plugins": ["/opt/reviewer"]}, "plugins", "in no allowed folder"),
        ({"plugins": ["tools/reviewer"]}, "plugins", "trust it first"),
        ({"json_schema": {"type": "object", "description": "a\0b"}}, "json_schema", "a NUL character"),
        ({"effort": "mad"}, "effort", "not a valid choice"),
        ({**SCRIPT, "prompt": "", "model": "", "json_schema": {"type": "object"}}, "json_schema", "takes none"),
        ({**SCRIPT, "prompt": "", "model": "", "mcp_servers": {"a": {"command": "b"}}}, "mcp_servers", "takes none"),
        ({**SCRIPT, "prompt": "", "model": "haiku"}, "model", "The runner “script” takes none. Leave it empty."),
        ({**SCRIPT, "prompt": "", "model": "", "persistence": "resume"}, "persistence", "keeps no conversation"),
        ({"runner": "codex", "plugins": ["a"]}, "plugins", "Codex loads no plugins"),
    ],
)
def test_what_can_not_be_given_is_refused_at_its_field(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Schedule(**{**PLAIN, **fields}).full_clean()

    assert set(refused.value.message_dict) == {field}
    assert words in refused.value.message_dict[field][0]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"max_run_usd": Decimal(0)}, "max_run_usd", "Give more than 0"),
        ({"max_budget_usd": Decimal("-1")}, "max_budget_usd", "Give more than 0"),
        ({"max_budget_usd": Decimal(2), "max_run_usd": Decimal("1.50")}, "max_run_usd", "one may cost 2 USD"),
        ({"weight": 0}, "weight", "greater than or equal to 1"),
    ],
)
def test_money_and_weight_that_let_nothing_start_are_refused(fields: dict[str, Any], field: str, words: str) -> None:
    plain = {**AGENT, "sandbox": "none", "network": "host"}
    with pytest.raises(ValidationError) as refused:
        Schedule(**plain, **fields).full_clean()
    assert words in " ".join(refused.value.message_dict[field])
