"""What a schedule gives Codex besides: MCP servers, a schema, effort. With the real program where it is."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from runners.base import OptionsInvalid
from runners.codex import CodexRunner
from runners.codex_options import mcp_server
from tests.runners import codex_sessions
from tests.runners import mcp_server as server_of_ours
from tests.runners.claude_sessions import Session, say, use
from tests.runners.codex_sessions import NEWER, NO_CODEX, converse, make_spec, run

needs_codex = pytest.mark.skipif(not codex_sessions.program(), reason=NO_CODEX)

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def sky(folder: Path, **more: Any) -> dict[str, Any]:
    """An MCP server of ours; FOLDER/seen tells with what it was started."""
    return {"command": sys.executable, "args": [server_of_ours.__file__, str(folder / "seen")], **more}


# A schema


@needs_codex
def test_a_result_that_keeps_to_the_schema(tmp_path: Path) -> None:
    session = converse(tmp_path, [say('{"n": 3}')], options={"json_schema": SCHEMA})

    assert session.requests[0].body["text"]["format"]["schema"] == SCHEMA
    assert (session.result.outcome, session.result.structured) == ("succeeded", {"n": 3})


@needs_codex
@pytest.mark.parametrize(
    ("text", "words"), [("Just words.", "no structured output"), ('{"n": "three"}', "at n: 'three' is not of type")]
)
def test_a_result_that_does_not_is_no_success(tmp_path: Path, text: str, words: str) -> None:
    session = converse(tmp_path, [say(text)], options={"json_schema": SCHEMA})

    assert (session.result.outcome, session.result.reason) == ("failed", "invalid_output")
    assert words in session.result.message
    assert session.result.structured is None


@needs_codex
def test_a_rehearsal_makes_up_a_result(tmp_path: Path) -> None:
    session = run(make_spec(tmp_path, rehearse=True, options={"json_schema": SCHEMA}))

    assert (session.result.outcome, session.result.structured) == ("succeeded", {"n": 0})


# Effort


@needs_codex
def test_effort_reaches_the_model(tmp_path: Path) -> None:
    session = converse(tmp_path, [say("Done.")], options={"effort": "high"})

    assert session.requests[0].body["reasoning"]["effort"] == "high"


def test_an_effort_that_codex_would_hand_on_unread_is_refused() -> None:
    problems = CodexRunner().problems({"model": "gpt-5.5", "effort": "max"})

    assert problems == {"effort": "max: is none of low, medium, high, xhigh."}


# MCP servers


def tool_results(session: Session) -> list[str]:
    return [event.text for event in session.events if event.kind == "tool_result"]


@needs_codex
@pytest.mark.parametrize("model", ["gpt-5.5", NEWER])
def test_a_server_is_started_and_its_tool_returns(tmp_path: Path, model: str) -> None:
    server = sky(tmp_path, env={"TOKEN": "${TOKEN}", "PLACE": "here"})
    session = converse(
        tmp_path,
        [use(("mcp__sky__weather", {"city": "Paris"})), say("Done.")],
        options={"model": model, "mcp_servers": {"sky": server}},
        environment={"TOKEN": "s3cr3t-5e1f", "OTHER": "not for it"},
    )

    assert (session.result.outcome, session.result.denied) == ("succeeded", ())
    assert "Sunny in Paris, says s3cr3t-5e1f" in tool_results(session)
    environment = json.loads((tmp_path / "seen").read_text())["environment"]
    assert environment["PLACE"] == "here"
    assert not {"OTHER", "OPENAI_API_KEY"} & environment.keys()
    assert not [word for word in session.launch.argv if "s3cr3t" in word]


@needs_codex
def test_a_server_that_does_not_start_fails_the_session(tmp_path: Path) -> None:
    session = converse(tmp_path, [say("Done.")], options={"mcp_servers": {"gone": {"command": "/nowhere/server"}}})

    assert (session.result.outcome, session.result.reason) == ("failed", "unequipped")
    assert "required MCP servers failed to initialize: gone" in session.result.message
    assert session.requests == []


@needs_codex
def test_a_server_at_an_address(tmp_path: Path) -> None:
    """Nobody is there; that it was tried shows that its settings were understood."""
    headers = {"Authorization": "Bearer ${KEY}", "X-Team": "all", "X-Key": "${KEY}"}
    server = {"type": "http", "url": "http://127.0.0.1:9/mcp", "headers": headers}
    session = converse(tmp_path, [], options={"mcp_servers": {"web": server}}, environment={"KEY": "s3cr3t-5e1f"})

    assert session.result.reason == "unequipped"
    assert "127.0.0.1:9" in "".join(session.tally.errors)


def test_a_server_in_the_words_of_codex() -> None:
    headers = {"authorization": "Bearer ${KEY}", "X-Team": "all", "X-Key": "${KEY}"}
    web = mcp_server({"type": "http", "url": "https://mcp.example.com/", "headers": headers})
    program = mcp_server({"command": "x", "env": {"TOKEN": "${TOKEN}", "A": "b"}})
    always = {"required": True, "default_tools_approval_mode": "approve"}

    assert web == always | {
        "url": "https://mcp.example.com/",
        "http_headers": {"X-Team": "all"},
        "env_http_headers": {"X-Key": "KEY"},
        "bearer_token_env_var": "KEY",
    }
    assert program == always | {"command": "x", "args": [], "env": {"A": "b"}, "env_vars": ["TOKEN"]}


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"type": "sse", "url": "https://x/"}, "stdio and http"),
        ({"type": "http", "url": "https://x/${TEAM}"}, "no variable into a url"),
        ({"command": "x", "env": {"TOKEN": "${OTHER}"}}, r"write TOKEN: \$\{TOKEN\}"),
        ({"command": "x", "env": {"TOKEN": "<${TOKEN}>"}}, "as it is"),
        ({"type": "http", "url": "https://x/", "headers": {"X": "Bearer ${KEY}"}}, "a whole variable"),
        ({"type": "http", "url": "https://x/", "headers": {"X": "${KEY:-none}"}}, "a whole variable"),
        ({"comand": "x"}, "comand: is nothing"),
        ({"command": "./x"}, "trust it first"),
    ],
)
def test_servers_that_codex_can_not_be_given(server: dict[str, Any], words: str) -> None:
    problems = CodexRunner().problems({"model": "gpt-5.5", "mcp_servers": {"s": server}})

    assert list(problems) == ["mcp_servers"]
    assert re.search(words, problems["mcp_servers"])


def test_a_variable_that_is_not_set_is_told_before_anything_starts(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path, program="/nowhere/codex", options={"mcp_servers": {"s": sky(tmp_path, env={"T": "${T}"})}}
    )
    with pytest.raises(OptionsInvalid, match="mcp_servers: T: is not in the session's environment"):
        CodexRunner().launch(spec)
