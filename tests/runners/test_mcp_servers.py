import re
from typing import Any

import pytest

from runners.mcp_servers import absolute_commands, problem, wanted

FORGE: dict[str, Any] = {"command": "forge-mcp", "args": ["--read-only"], "env": {"TOKEN": "${FORGE_TOKEN}"}}
WEB: dict[str, Any] = {"type": "http", "url": "https://mcp.example.com/${TEAM:-all}", "headers": {"X-Key": "a ${KEY}"}}


@pytest.mark.parametrize(
    "servers",
    [
        {},
        {"forge": FORGE, "web": WEB},
        {"web_2": {**WEB, "type": "sse"}},
        {"a": {"type": "stdio", "command": "/opt/a"}},
    ],
)
def test_servers_that_are_well(servers: object) -> None:
    assert problem(servers, trusted=False) == ""


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ([], "Give a JSON object"),
        ({"mcpServers": {"forge": FORGE}}, "Leave the mcpServers around it out"),
        ({"a b": FORGE}, "no name of a server"),
        ({"a__b": FORGE}, "no name of a server"),
        ({"--x": FORGE}, "no name of a server"),
        ({"forge": "forge-mcp"}, "forge: Give an object"),
        ({"forge": {"comand": "x"}}, "forge: comand: is nothing that a stdio server has"),
        ({"forge": {"type": "grpc", "url": "x"}}, "forge: “grpc” is no type"),
        ({"forge": {"url": "https://x"}}, 'needs a "type"'),
        ({"forge": {}}, "forge: Give its program"),
        ({"forge": {"command": "x", "args": "--y"}}, '"args" is a list'),
        ({"forge": {"command": "x", "args": ["a\0b"]}}, '"args" is a list'),
        ({"forge": {"command": "x", "args": ["--token=${TOKEN}"]}}, "can be read by everybody"),
        ({"forge": {"command": "x", "env": {"A B": "c"}}}, "can't be a name in env"),
        ({"forge": {"command": "x", "env": {"A": 1}}}, '"env" is an object of texts'),
        ({"web": {"type": "http"}}, "web: Give its address"),
        ({"web": {"type": "http", "url": "ftp://x"}}, "web: Give its address"),
        ({"web": {"type": "http", "url": "https://me:pass@x/"}}, "out of the url"),
        ({"web": {**WEB, "headers": {"X Y": "z"}}}, "can't be a name in headers"),
        ({"web": {**WEB, "headers": {"X": "a\r\nY: b"}}}, "one line"),
        ({"forge": {"command": "x", "args": ["y" * 100_000]}}, "longer than 100 kB"),
    ],
)
def test_servers_that_will_not_do(servers: object, words: str) -> None:
    assert re.search(words, problem(servers, trusted=True))


def test_a_program_of_the_repository_is_started_only_where_that_is_trusted() -> None:
    servers = {"ours": {"command": "./tools/server"}}

    assert "trust it first" in problem(servers, trusted=False)
    assert problem(servers, trusted=True) == ""


def test_what_has_to_be_set_for_them() -> None:
    assert wanted({"forge": FORGE, "web": WEB}) == {"FORGE_TOKEN", "KEY"}
    assert wanted(["forge"]) == wanted({"forge": "x"}) == wanted(None) == set()


def test_programs_that_may_lie_anywhere() -> None:
    assert absolute_commands({"a": {"command": "/opt/a"}, "b": FORGE, "c": WEB}) == ["/opt/a"]
    assert absolute_commands(None) == []
