import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.agent_lines import LINE_BYTES, TEXT_LENGTH, describe_tool, shortened
from runners.base import Event, Line
from runners.claude_stream import read
from tests.runners.claude_sessions import RECORDED, STREAMS


def line(frame: object, stream: Literal["out", "err", "shim"] = "out") -> Line:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return Line(at_ms=7, stream=stream, data=data)


def only(frame: object, stream: Literal["out", "err", "shim"] = "out") -> Event:
    [event] = read(line(frame, stream))
    return event


def events_of(name: str) -> list[Event]:
    frames = (STREAMS / f"{name}.jsonl").read_bytes().splitlines()[1:]
    return [event for frame in frames for event in read(line(frame))]


def assistant(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": "m", "model": "claude-x", "content": list(content)}, **more}


@pytest.mark.parametrize("name", RECORDED)
def test_every_line_that_the_real_program_printed_is_understood(name: str) -> None:
    events = events_of(name)

    assert events[0].kind == "init"
    assert not [event for event in events if event.kind == "output"]


def test_a_session_told_as_events() -> None:
    told = [(event.kind, event.text) for event in events_of("writes-a-file") if event.kind != "usage"]

    assert told == [
        ("init", "Claude Code 2.1.327 with claude-haiku-5-5"),
        ("text", "I will look around first."),
        ("tool_use", "Read: /workspace/README.md"),
        ("tool_result", "1\tA small project.\n2\t"),
        ("tool_use", "Write: /workspace/notes.md"),
        ("tool_result", told[5][1]),
        ("text", "I wrote notes.md. It has one line."),
        ("result", "I wrote notes.md. It has one line."),
    ]
    assert told[5][1].startswith("File created successfully")


def test_what_the_init_line_says() -> None:
    data = events_of("success")[0].data

    assert data["version"] == "2.1.327"
    assert data["model"] == "claude-haiku-5-5"
    assert {"Bash", "Read", "Edit"} <= set(data["tools"])
    assert not {"ScheduleWakeup", "SendMessage", "CronCreate"} & set(data["tools"])


def test_retries_and_faults_name_what_went_wrong() -> None:
    retry, fault = [event for event in events_of("overloaded") if event.kind == "error"]

    assert retry.text.startswith("Overloaded (529): retry 1 of 1 in 0.")
    assert retry.data == {"fault": "overloaded", "status": 529}
    assert fault.text.startswith("API Error: 529 Overloaded")


def test_a_denied_tool_is_told_when_it_is_denied_and_at_the_end() -> None:
    denied = [event for event in events_of("denied") if "denied" in event.data]

    assert [event.kind for event in denied] == ["error", "result"]
    assert denied[0].data["denied"] == "Bash"
    assert denied[1].data["denied"] == ["Bash: touch not-allowed"]


def test_a_fallback_is_told() -> None:
    [note] = [event for event in events_of("fell-back") if event.kind == "note"]

    assert note.data["fallback_model"] == "claude-sonnet-5-5"


def test_a_usage_limit_says_when_it_resets() -> None:
    [limit] = [event for event in events_of("usage-limit") if event.kind == "rate_limit"]

    assert limit.text == "The five hour limit: rejected"
    assert limit.data["resets_at"] == 1795200000


def test_cost_is_that_of_this_process_and_not_of_the_conversation() -> None:
    frame = {
        "type": "result",
        "subtype": "success",
        "result": "Done.",
        "total_cost_usd": 5.1,
        "modelUsage": {"m": {"inputTokens": 90, "costUSD": 5.1}},
        "model_usage_since_last_result": {"m": {"inputTokens": 9, "cacheReadInputTokens": 5, "costUSD": 0.1}},
        "result_index": 0,
    }
    assert only(frame).data["cost_usd"] == 0.1
    assert (only(frame).data["input_tokens"], only(frame).data["cached_tokens"]) == (9, 5)

    later = only({**frame, "result_index": 1}).data
    assert (later["cost_usd"], later["input_tokens"]) == (5.1, 90)


def test_thinking_subagents_and_tools_of_the_server() -> None:
    frame = assistant(
        {"type": "thinking", "thinking": "Hm."},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": "rota"}},
        parent_tool_use_id="t0",
    )
    thinking, search = read(line(frame))

    assert (thinking.kind, thinking.text, thinking.data) == ("thinking", "Hm.", {"subagent": True})
    assert search.text == "web_search: rota"


def test_a_tool_may_return_blocks() -> None:
    content = [{"type": "text", "text": "one"}, {"type": "image", "source": {}}]
    block = {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": content}
    event = only({"type": "user", "message": {"role": "user", "content": [block]}})

    assert (event.text, event.data) == ("one\n(image)", {"id": "t", "is_error": True})


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ({"subtype": "status", "status": "compacting"}, "Conversation: compacting"),
        ({"subtype": "compact_boundary"}, "The conversation was compacted."),
        ({"subtype": "hook_response", "hook_name": "Stop", "outcome": "error", "exit_code": 2}, "Hook Stop: error"),
        ({"subtype": "task_started", "description": "look"}, "Task started: look"),
        ({"subtype": "task_notification", "status": "failed", "summary": "no"}, "Task failed: no"),
        ({"subtype": "informational", "content": "By the way"}, "By the way"),
        ({"subtype": "model_refusal_no_fallback", "original_model": "a"}, "a was replaced by no other model"),
    ],
)
def test_what_the_program_remarks_is_a_note(frame: dict[str, Any], text: str) -> None:
    event = only({"type": "system", **frame})

    assert (event.kind, event.text) == ("note", text)


@pytest.mark.parametrize("frame", [{"type": "stream_event"}, {"type": "system", "subtype": "thinking_tokens"}])
def test_what_nobody_needs_is_left_out(frame: dict[str, Any]) -> None:
    assert read(line(frame)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Segmentation fault",
        b"{not json",
        b"[1, 2]",
        b"\xff\xfe\x00",
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "assistant", "message": 3}',
        b'{"type": "user", "message": null}',
        b'{"type": "system", "subtype": "of tomorrow"}',
        b'{"type": "of tomorrow"}',
        b'{"type": ["a"]}',
    ],
)
def test_what_is_not_known_is_kept_as_output(data: bytes) -> None:
    assert only(data).kind == "output"


def test_a_line_without_end_is_not_parsed() -> None:
    event = only(b'{"type":"result","result":"' + b"x" * LINE_BYTES + b'"}')

    assert event.kind == "output"
    assert len(event.text) < 10_000


def test_standard_error_is_cleaned() -> None:
    event = only(b"\x1b[31mred\x1b[0m \x00\x07\xff bell\r", "err")

    assert (event.kind, event.text) == ("stderr", "red � bell")


@pytest.mark.parametrize(
    ("note", "kind", "text", "data"),
    [
        (b"stalled: It printed nothing for 10 minutes.", "limit", "It printed nothing for 10 minutes.", "stalled"),
        (b"truncated: The rest is not kept.", "note", "The rest is not kept.", None),
        (b"what is this", "note", "what is this", None),
    ],
)
def test_notes_of_the_shim(note: bytes, kind: str, text: str, data: str | None) -> None:
    event = only(note, "shim")

    assert (event.kind, event.text, event.data.get("ended_by")) == (kind, text, data)


def test_texts_are_capped_and_fit_a_database() -> None:
    text = "nul \x00, half a pair \ud800, " + "x" * TEXT_LENGTH
    event = read(line(assistant({"type": "text", "text": text})))[0]

    assert len(event.text) < TEXT_LENGTH + 50
    assert event.text.endswith("more characters)")
    assert "\x00" not in event.text
    assert event.text.encode()


def test_inputs_of_tools_are_capped() -> None:
    given = {
        "content": "x" * 10_000,
        "deep": [[[[[[[["too deep"]]]]]]]],
        "many": list(range(1000)),
        "ok": True,
        "n": None,
    }
    short = shortened(given)

    assert len(short["content"]) < 3_000
    assert len(short["many"]) == 50
    assert "too deep" not in json.dumps(short)
    assert (short["ok"], short["n"]) == (True, None)


@pytest.mark.parametrize(
    ("name", "given_input", "words"),
    [
        ("Bash", {"description": "Look", "command": "git log\n  -5"}, "Bash: git log -5"),
        ("Edit", {"file_path": "a.py", "old_string": "x"}, "Edit: a.py"),
        ("mcp__forge__close", {"number": 3, "why": "done"}, "mcp__forge__close: done"),
        ("TaskStop", {}, "TaskStop"),
        ("Odd", None, "Odd"),
    ],
)
def test_a_tool_use_in_a_few_words(name: str, given_input: object, words: str) -> None:
    assert describe_tool(name, given_input) == words


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = (
    *("subtype", "message", "error", "session_id", "tools", "model", "errors", "permission_denials", "modelUsage"),
    *("total_cost_usd", "num_turns", "rate_limit_info", "attempt", "retry_delay_ms", "error_status", "result"),
    "model_usage_since_last_result",
)
_FRAMES = st.dictionaries(
    st.sampled_from(_FIELDS),
    _JSON | st.fixed_dictionaries({"content": _JSON, "usage": _JSON}) | st.fixed_dictionaries({"resetsAt": _JSON}),
)


@settings(max_examples=300, deadline=None)
@given(
    frame=_FRAMES,
    kind=st.sampled_from(["system", "assistant", "user", "result", "rate_limit_event", "x"]),
    subtype=st.sampled_from(["init", "api_retry", "permission_denied", "status", "hook_response", "task_started", ""]),
)
def test_nothing_a_line_may_hold_makes_it_raise(frame: dict[str, Any], kind: str, subtype: str) -> None:
    frame = {"subtype": subtype, **frame, "type": kind}
    for event in read(line(json.dumps(frame).encode())):
        json.dumps(event.data, allow_nan=False)
        assert event.text.encode() is not None
