import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import tallying, verdict
from runners.base import Event, Line, Tally
from runners.codex_stream import fault_of, read
from tests.runners.claude_sessions import make_ending
from tests.runners.codex_sessions import PREFIX, RECORDED, STREAMS, recorded


def line(frame: object, stream: Literal["out", "err", "shim"] = "out") -> Line:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return Line(at_ms=7, stream=stream, data=data)


def only(frame: object, stream: Literal["out", "err", "shim"] = "out") -> Event:
    [event] = read(line(frame, stream))
    return event


def item(kind: str, state: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"item.{state}", "item": {"id": "item_1", "type": kind, **fields}}


# What the real program printed


JUDGED = [
    ("success", "succeeded", "ok", ""),
    ("writes-a-file", "succeeded", "ok", ""),
    ("newer-model", "succeeded", "ok", ""),
    ("thinks", "succeeded", "ok", ""),
    ("many-tools-at-once", "succeeded", "ok", ""),
    ("subagent", "succeeded", "ok", ""),
    ("dated-model", "succeeded", "ok", ""),
    ("denied", "failed", "denied", "writing is blocked by read-only sandbox"),
    ("denied-to-newer-model", "failed", "denied", "writing is blocked by read-only sandbox"),
    ("forbidden", "failed", "denied", "`/bin/bash -c 'rm -rf /usr/lib/x'` rejected"),
    ("no-sandbox", "failed", "sandbox_unavailable", "Creating new namespace failed"),
    ("no-sandbox-for-newer-model", "failed", "sandbox_unavailable", "Creating new namespace failed"),
    ("says-nothing", "failed", "no_result", "without a result text"),
    ("ends-without-words", "failed", "no_result", "without a result text"),
    ("another-model", "failed", "model_mismatch", "claude-other-1-0 answered; gpt-5.5 was asked for"),
    ("refused", "failed", "refused", "content_filter"),
    ("wrong-key", "failed", "auth", "invalid x-api-key"),
    ("no-key", "failed", "auth", "OPENAI_API_KEY"),
    ("rate-limited", "failed", "rate_limited", "429"),
    ("usage-limit", "failed", "rate_limited", "usage limit"),
    ("usage-limit-until", "failed", "rate_limited", "The limit is lifted at 2027-01-01 09:01 UTC."),
    ("no-quota", "failed", "billing", "Quota exceeded"),
    ("overloaded", "failed", "overloaded", "529"),
    ("no-such-model", "failed", "model_unavailable", "does not exist"),
    ("too-long", "failed", "prompt_too_long", "context window"),
    ("server-error", "failed", "api_error", "high demand"),
    ("connection-refused", "failed", "api_error", "Connection failed"),
    ("cut-off", "failed", "api_error", "stream disconnected"),
    ("hangs", "timed_out", "timed_out", "longer than its time limit"),
]


@pytest.mark.parametrize(("name", "outcome", "reason", "words"), JUDGED)
def test_recorded_sessions_of_the_real_program(
    tmp_path: Path, name: str, outcome: str, reason: str, words: str
) -> None:
    session = recorded(name, tmp_path)

    assert (session.result.outcome, session.result.reason) == (outcome, reason)
    assert words in session.result.message
    assert session.events[0].kind == "init"
    assert not [event for event in session.events if event.kind == "output"]


def test_every_recording_is_judged_above() -> None:
    assert {file.stem.removeprefix(PREFIX) for file in STREAMS.glob(f"{PREFIX}*.jsonl")} == set(RECORDED)
    assert {name for name, *_ in JUDGED} == set(RECORDED)


def test_a_session_told_as_events(tmp_path: Path) -> None:
    events = recorded("writes-a-file", tmp_path).events

    assert [(event.kind, event.text) for event in events] == [
        ("init", "Codex"),
        ("text", "I will look around first."),
        ("tool_use", "command: cat -- /workspace/README.md"),
        ("tool_result", "A small project.\n"),
        ("tool_use", "patch: add /workspace/notes.md"),
        ("tool_result", "add /workspace/notes.md"),
        ("text", "I wrote notes.md. It has one line."),
        ("result", ""),
    ]
    assert events[2].data == {"id": "item_1", "name": "command", "input": {"command": "cat -- /workspace/README.md"}}
    assert events[0].data["agent_session_id"]


def test_what_a_session_produced_is_told(tmp_path: Path) -> None:
    result = recorded("writes-a-file", tmp_path).result

    assert result.result == "I wrote notes.md. It has one line."
    assert result.summary == "I wrote notes.md."
    assert (result.model, result.turns) == ("gpt-5.5", 3)
    assert min(result.input_tokens, result.output_tokens, result.cached_tokens) > 0


def test_each_answer_is_a_turn_however_many_tools_it_uses(tmp_path: Path) -> None:
    assert recorded("many-tools-at-once", tmp_path).result.turns == 2


def test_what_subagents_use_is_counted_and_their_turns_are_not(tmp_path: Path) -> None:
    session = recorded("subagent", tmp_path)
    printed = session.events[-1].data

    assert session.result.turns == 3
    assert session.result.input_tokens > printed["input_tokens"]
    assert session.result.output_tokens > printed["output_tokens"]
    assert session.result.result == "We are done."


def test_codex_does_not_say_what_it_cost(tmp_path: Path) -> None:
    session = recorded("success", tmp_path)

    assert (session.events[-1].data["cost_usd"], session.events[-1].data["cost_known"]) == (0, False)
    assert session.result.cost_source == "reckoned"


def test_words_before_the_last_tool_are_no_result(tmp_path: Path) -> None:
    session = recorded("ends-without-words", tmp_path)

    assert session.tally.last_text == "I look."
    assert session.result.result == ""
    assert recorded("ends-without-words", tmp_path / "2", allow_empty_result=True).result.reason == "ok"


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({"exit_code": 3}, "failed", "crashed"),
        ({"exit_code": None, "signal": 11}, "failed", "crashed"),
        ({"exit_code": None, "signal": 15, "ended_by": "lingered"}, "succeeded", "ok"),
        ({"ended_by": "disk_full"}, "failed", "disk_full"),
        ({"model": "gpt-6-luna"}, "failed", "model_mismatch"),
    ],
)
def test_a_success_and_what_came_after_it(tmp_path: Path, changes: dict[str, Any], outcome: str, reason: str) -> None:
    result = recorded("success", tmp_path, **changes).result

    assert (result.outcome, result.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({"ended_by": "stalled"}, "timed_out", "stalled"),
        ({"ended_by": "cancelled"}, "cancelled", "cancelled"),
        ({"ended_by": "shim_died"}, "lost", "worker_died"),
        ({"ended_by": "", "signal": 9}, "failed", "crashed"),
        ({"ended_by": "", "signal": None, "exit_code": 0}, "failed", "no_result"),
        ({"ended_by": "", "signal": None, "exit_code": 0, "truncated": True}, "failed", "truncated"),
    ],
)
def test_a_session_without_a_result(tmp_path: Path, changes: dict[str, Any], outcome: str, reason: str) -> None:
    result = recorded("hangs", tmp_path, **changes).result

    assert (result.outcome, result.reason) == (outcome, reason)


def test_denied_tools_can_be_tolerated(tmp_path: Path) -> None:
    result = recorded("denied", tmp_path, tolerate_denied=True).result

    assert result.reason == "ok"
    assert "writing is blocked" in result.message


def test_without_what_codex_keeps_the_stream_has_to_do(tmp_path: Path) -> None:
    session = recorded("writes-a-file", tmp_path)
    kept = next((session.spec.home / ".codex" / "sessions").rglob("*.jsonl"))
    kept.unlink()
    again = replace(session)  # read and judged anew

    assert again.result.reason == "ok"
    assert again.result.result == "I wrote notes.md. It has one line."
    assert again.result.input_tokens == session.result.input_tokens
    assert (again.result.turns, again.result.model) == (0, "")


# Lines one by one


@pytest.mark.parametrize(
    ("frame", "kind", "text", "data"),
    [
        (item("reasoning", text="Hm."), "thinking", "Hm.", {}),
        (item("plan", text="1. Look."), "text", "1. Look.", {}),
        (item("web_search", "started", query="rust"), "tool_use", "web search: rust", {"name": "web search"}),
        (item("web_search", query="rust"), "tool_result", "rust", {"is_error": False}),
        (
            item("mcp_tool_call", "started", server="forge", tool="list", arguments={"query": "is:open"}),
            "tool_use",
            "mcp__forge__list: is:open",
            {"name": "mcp__forge__list", "input": {"query": "is:open"}},
        ),
        (
            item(
                "mcp_tool_call",
                status="completed",
                result={"content": [{"type": "text", "text": "3"}, {"type": "image"}]},
            ),
            "tool_result",
            "3\n(image)",
            {"is_error": False},
        ),
        (
            item("mcp_tool_call", status="failed", error={"message": "Gone."}),
            "tool_result",
            "Gone.",
            {"is_error": True},
        ),
        (
            item("collab_tool_call", "started", tool="spawn_agent", prompt="Hi."),
            "tool_use",
            "spawn_agent: Hi.",
            {"name": "spawn_agent"},
        ),
        (item("collab_tool_call", status="completed"), "tool_result", "", {"is_error": False}),
        (
            item("todo_list", "started", items=[{"text": "a", "completed": True}, {"text": "b"}]),
            "note",
            "Plan:\n[x] a\n[ ] b",
            {},
        ),
        (item("error", message="Mind the gap."), "note", "Mind the gap.", {}),
        (item("file_change", status="failed", changes=[3]), "tool_result", "", {"is_error": True}),
        (
            item("command_execution", "started", command="/usr/bin/zsh -lc 'a; b'"),
            "tool_use",
            "command: a; b",
            {"input": {"command": "a; b"}},
        ),
        (item("command_execution", "started", command="it's"), "tool_use", "command: it's", {}),
        ({"type": "error", "message": "Oops."}, "error", "Oops.", {"fault": "unknown", "status": None}),
        ({"type": "turn.failed"}, "result", "", {"is_error": True, "subtype": "failed"}),
        ({"type": "turn.completed"}, "result", "", {"input_tokens": 0, "subtype": "success"}),
        ({"type": "tomorrow"}, "output", '{"type": "tomorrow"}', {"type": "tomorrow"}),
        ({"type": "item.started"}, "output", '{"type": "item.started"}', {}),
        (b"not json", "output", "not json", {}),
    ],
)
def test_what_a_line_means(frame: object, kind: str, text: str, data: dict[str, Any]) -> None:
    event = only(frame)

    assert (event.kind, event.text, event.at_ms) == (kind, text, 7)
    assert data.items() <= event.data.items()


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "turn.started"},
        item("agent_message", "started", text="half"),
        item("todo_list", items=[]),
        item("error", "started", message="x"),
    ],
)
def test_lines_that_say_nothing_new(frame: object) -> None:
    assert read(line(frame)) == []


def test_a_command_that_was_declined_is_denied() -> None:
    result, denied = read(line(item("command_execution", command="bash -c 'git push'", status="declined")))

    assert (result.kind, result.data["is_error"]) == ("tool_result", True)
    assert (denied.kind, denied.data["denied"]) == ("error", "command: git push")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"2026-11-20T11:35:41Z ERROR codex_core::tools::router: error=patch rejected: no", "error"),
        (b"2026-11-20T11:35:41Z ERROR codex_core::tools::router: error=unsupported call: Bash", "stderr"),
        (b"warning: patch rejected", "stderr"),
        (b"\xff\x00", "stderr"),
    ],
)
def test_standard_error_tells_what_was_refused(text: bytes, kind: str) -> None:
    assert only(text, "err").kind == kind


def test_what_the_shim_says_is_its_own() -> None:
    assert only(b"timed_out: It takes too long.", "shim").data == {"ended_by": "timed_out"}


@pytest.mark.parametrize(
    ("text", "fault", "status", "stop"),
    [
        ("unexpected status 401 Unauthorized: no, url: x", "authentication_failed", 401, ""),
        ("exceeded retry limit, last status: 429 Too Many Requests", "unknown", 429, ""),
        ("rate limit exceeded: The server is overloaded", "overloaded", None, ""),
        ("rate limit exceeded: Slow down", "rate_limit", None, ""),
        ("Selected model is at capacity. Please try a different model.", "overloaded", None, ""),
        ("The model `x` does not exist or you do not have access to it.", "model_not_found", None, ""),
        ("Codex ran out of room in the model's context window.", "unknown", None, "prompt_too_long"),
        ("Incomplete response returned, reason: content_filter", "unknown", None, "refusal"),
        ("", "unknown", None, ""),
    ],
)
def test_the_cause_of_a_fault(text: str, fault: str, status: int | None, stop: str) -> None:
    assert fault_of(text) == {"fault": fault, "status": status, "stop": stop}


def test_a_fault_that_is_told_with_the_result_alone() -> None:
    tally = Tally()
    for event in read(line({"type": "turn.failed", "error": {"message": "Quota exceeded."}})):
        tallying.add(tally, event)

    assert verdict.judge(make_ending(1), tally, {}).reason == "billing"


def test_an_earlier_fault_is_not_the_cause_of_a_later_one() -> None:
    tally = Tally()
    messages = ["Reconnecting... 1/5 (rate limit exceeded: Slow down)", "stream disconnected before completion"]
    frames = [*({"type": "error", "message": text} for text in messages), {"type": "turn.failed", "error": {}}]
    for event in (event for frame in frames for event in read(line(frame))):
        tallying.add(tally, event)

    assert verdict.judge(make_ending(1), tally, {}).reason == "api_error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "type", "text", "command", "changes", "items", "result", "error", "status", "message"])
TYPES = st.sampled_from(
    [
        *("agent_message", "reasoning", "command_execution", "file_change", "mcp_tool_call", "collab_tool_call"),
        *("web_search", "todo_list", "error"),
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["item.started", "item.updated", "item.completed", "turn.completed", "turn.failed", "error", "x"]),
    TYPES,
    st.dictionaries(KEYS, JSON, max_size=5),
    JSON,
)
def test_no_line_is_too_odd(kind: str, what: str, fields: dict[str, Any], other: Any) -> None:
    frame = {"type": kind, "item": {**fields, "type": what}, "usage": other, "error": other, "message": other}
    tally = Tally()
    for event in read(line(frame)):
        tallying.add(tally, event)
        assert json.dumps(dict(event.data)) is not None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["out", "err", "shim"]))
def test_no_bytes_are_too_odd(data: bytes, stream: Literal["out", "err", "shim"]) -> None:
    assert read(Line(at_ms=1, stream=stream, data=data))
