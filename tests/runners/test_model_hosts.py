"""What a schedule in a sandbox is told before it is saved."""

from typing import Any

import pytest

from runners.claude import ClaudeRunner
from runners.codex import CodexRunner
from runners.model_hosts import unreachable_model, unreachable_servers
from runners.script import ScriptRunner

CLAUDE, CODEX = ClaudeRunner.credentials, CodexRunner.credentials


@pytest.mark.parametrize(
    ("credentials", "environment", "network", "hosts"),
    [
        (CLAUDE, {}, "host", []),
        (CLAUDE, {}, "allow_list", ["api.anthropic.com"]),
        (CLAUDE, {}, "allow_list", ["example.org", "*.anthropic.com"]),
        (CODEX, {}, "allow_list", ["api.openai.com:443"]),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "https://gate.example.com:8443/v1"}, "allow_list", ["gate.example.com:8443"]),
        (CLAUDE, {"CLAUDE_CODE_USE_BEDROCK": "1"}, "allow_list", ["bedrock.example.com"]),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "https://localhost.example.com"}, "allow_list", ["localhost.example.com"]),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "no url"}, "allow_list", ["a.test"]),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "https://[::1"}, "allow_list", ["a.test"]),
        (ScriptRunner.credentials, {}, "none", []),
    ],
)
def test_what_may_well_work_is_left_alone(
    credentials: tuple[str, ...], environment: dict[str, str], network: str, hosts: list[str]
) -> None:
    assert unreachable_model(credentials, environment, network=network, allowed_hosts=hosts) == ("", "")


@pytest.mark.parametrize(
    ("credentials", "environment", "network", "hosts", "field", "words"),
    [
        (CLAUDE, {}, "none", [], "network", "name api.anthropic.com there"),
        (CODEX, {}, "none", [], "network", "name api.openai.com there"),
        (
            CLAUDE,
            {},
            "allow_list",
            ["example.org"],
            "allowed_hosts",
            "add api.anthropic.com, or set ANTHROPIC_BASE_URL",
        ),
        (CLAUDE, {}, "allow_list", ["api.anthropic.com:8443"], "allowed_hosts", "add api.anthropic.com"),
        (
            CODEX,
            {"OPENAI_BASE_URL": "https://gate.example.com:8443/v1"},
            "allow_list",
            ["gate.example.com"],
            "allowed_hosts",
            "add gate.example.com:8443",
        ),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "allow_list", ["127.0.0.1:9"], "network", "127.0.0.1:9"),
        (CLAUDE, {"ANTHROPIC_BASE_URL": "http://[::1]:9"}, "none", [], "network", "by the worker's network alone"),
    ],
)
def test_a_model_out_of_reach_is_named(
    credentials: tuple[str, ...],
    environment: dict[str, str],
    network: str,
    hosts: list[str],
    field: str,
    words: str,
) -> None:
    found = unreachable_model(credentials, environment, network=network, allowed_hosts=hosts)
    assert found[0] == field
    assert words in found[1]


def at(url: str, kind: str = "http") -> dict[str, Any]:
    return {"web": {"type": kind, "url": url}}


@pytest.mark.parametrize(
    ("servers", "network", "hosts"),
    [
        ({}, "none", []),
        ({"forge": {"command": "forge-mcp"}}, "none", []),
        (at("https://mcp.example.com/mcp"), "host", []),
        (at("http://127.0.0.1:9/mcp"), "host", []),
        (at("https://mcp.example.com/mcp"), "allow_list", ["mcp.example.com"]),
        (at("https://MCP.example.com/mcp", "sse"), "allow_list", ["*.example.com"]),
        (at("https://mcp.example.com:8443/"), "allow_list", ["mcp.example.com:8443"]),
        (at("https://${WHERE}/mcp"), "allow_list", ["mcp.example.com"]),
        (at("https://${SECRET}/mcp"), "allow_list", ["a.test"]),
        (at("${SECRET}"), "none", []),
        (at("https://[::1"), "none", []),
        ({"web": "no server"}, "none", []),
    ],
)
def test_servers_that_may_well_be_reached_are_left_alone(servers: Any, network: str, hosts: list[str]) -> None:
    known = {"WHERE": "mcp.example.com"}
    assert unreachable_servers(servers, known, network=network, allowed_hosts=hosts) == []


@pytest.mark.parametrize(
    ("url", "network", "hosts", "field", "words"),
    [
        ("https://mcp.example.com/mcp", "none", [], "network", "web is at mcp.example.com, and without a network"),
        ("https://mcp.example.com/mcp", "allow_list", ["a.test"], "allowed_hosts", "add mcp.example.com, or"),
        ("https://mcp.example.com:8443/", "allow_list", ["mcp.example.com"], "allowed_hosts", "mcp.example.com:8443"),
        ("http://${WHERE}:80/mcp", "allow_list", ["a.test"], "allowed_hosts", "add mcp.example.com, or"),
        ("http://${NOWHERE:-b.test}/mcp", "allow_list", ["a.test"], "allowed_hosts", "add b.test, or"),
        ("http://localhost:9/mcp", "allow_list", ["localhost:9"], "network", "localhost:9, on the worker's machine"),
    ],
)
def test_a_server_out_of_reach_is_named(url: str, network: str, hosts: list[str], field: str, words: str) -> None:
    known = {"WHERE": "mcp.example.com"}
    [found] = unreachable_servers(at(url), known, network=network, allowed_hosts=hosts)
    assert found[0] == field
    assert words in found[1]
