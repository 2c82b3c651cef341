import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runners import rehearsals
from runners.scripted_model import ScriptedModel, ScriptInvalid, parse_script
from tests.runners.claude_sessions import say

TOOLS = [{"name": "Bash"}]


@pytest.fixture
def direct() -> Iterator[urllib.request.OpenerDirector]:
    """Opens addresses without a proxy, whatever the surroundings say."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    yield opener
    opener.close()


def ask(model: ScriptedModel, body: object, path: str = "/v1/messages?beta=true") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(model.url + path, data=data), timeout=10) as answer:
        text = answer.read()
    if answer.headers["content-type"] != "text/event-stream":
        return json.loads(text)
    return [json.loads(part.partition(b"data: ")[2]) for part in text.split(b"\n\n") if part]


def question(prompt: str = "Do it.", *more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, *more]
    return {"model": "claude-x", "max_tokens": 100, "tools": TOOLS, "messages": messages, **changes}


def texts(answer: Any) -> list[str]:
    return [block["text"] for block in answer["content"] if block["type"] == "text"]


# The scripted model


def test_it_plays_its_turns_and_then_its_end() -> None:
    with ScriptedModel({"turns": [[{"type": "text", "text": "One."}]], "end": "Over."}) as model:
        answers = [texts(ask(model, question())) for _ in range(3)]

    assert answers == [["One."], ["Over."], ["Over."]]
    assert [request.prompt for request in model.requests] == ["Do it."] * 3


def test_an_answer_is_streamed_as_the_messages_api_streams_it() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "a" * 300},
        {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}},
    ]
    with ScriptedModel([content]) as model:
        events = ask(model, question(stream=True))

    assert [event["type"] for event in events] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", *["content_block_delta"] * 3, "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        "message_delta",
        "message_stop",
    ]
    assert "".join(e["delta"].get("text", "") for e in events if "index" in e and "delta" in e) == "a" * 300
    assert json.loads(events[-4]["delta"]["partial_json"]) == {"command": "ls"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[0]["message"]["model"] == "claude-x"


def test_the_prompt_and_what_tools_returned_are_filled_in() -> None:
    returned = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a ``` b"}]}
    messages = [
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}]},
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>Mind this.</system-reminder>"}]},
        {"role": "user", "content": [returned]},
        {"role": "user", "content": [{**returned, "content": "second"}]},
    ]
    told = "{{ prompt }} | {{ results }} | {{ model }} | {{ workspace }} | {{ unknown }}"
    with ScriptedModel([[{"type": "text", "text": told}]], workspace="/w") as model:
        [text] = texts(ask(model, question("Line 1\nLine 2", *messages)))

    assert text == "> Line 1\n> Line 2 | ````text\na ``` b\nsecond\n```` | claude-x | /w | {{ unknown }}"


def test_only_the_latest_prompt_counts() -> None:
    earlier = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "old"}]}
    with ScriptedModel([[{"type": "text", "text": "{{ prompt }} {{ results }}"}]]) as model:
        [text] = texts(ask(model, question("First", earlier, {"role": "user", "content": "\n".join("x" * 12)})))

    assert text.startswith("> x\n")
    assert text.endswith("> … (2 more lines) ```text\n(nothing)\n```")


def test_a_question_without_tools_takes_no_turn() -> None:
    with ScriptedModel([say("One.")]) as model:
        ask(model, question(tools=[]))
        assert texts(ask(model, question())) == ["One."]

    assert len(model.requests) == 1


def test_what_was_sent_before_is_read_from_the_cache() -> None:
    with ScriptedModel([]) as model:
        first, second = (ask(model, question("x" * 4000))["usage"] for _ in range(2))

    assert first["cache_creation_input_tokens"] > 1000 > first["cache_read_input_tokens"]
    assert second["cache_read_input_tokens"] > 1000 > second["cache_creation_input_tokens"]


def test_tokens_can_be_counted() -> None:
    with ScriptedModel([]) as model:
        assert ask(model, question(), "/v1/messages/count_tokens")["input_tokens"] > 10


def test_another_model_and_another_end_of_a_turn() -> None:
    with ScriptedModel([say("No.", model="claude-y", stop_reason="refusal", delay=0.01)]) as model:
        answer = ask(model, question())

    assert (answer["model"], answer["stop_reason"]) == ("claude-y", "refusal")


def test_an_error_comes_as_often_as_it_is_to() -> None:
    error = {"status": 429, "type": "rate_limit_error", "message": "Slow down", "headers": {"retry-after": "3"}}
    with ScriptedModel([{"error": error, "times": 2}, say("Now.")]) as model:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(model, question())
            with refused.value as answer:
                assert (answer.code, answer.headers["retry-after"]) == (429, "3")
                assert json.load(answer)["error"] == {"type": "rate_limit_error", "message": "Slow down"}
        assert texts(ask(model, question())) == ["Now."]


@pytest.mark.parametrize(("body", "path"), [(b"not json", "/v1/messages"), (b"[]", "/v1/messages"), (b"{}", "/other")])
def test_what_is_no_question_is_refused(body: bytes, path: str) -> None:
    with ScriptedModel([]) as model, pytest.raises(urllib.error.HTTPError, match="400"):
        ask(model, body, path)


def test_it_has_no_pages(direct: urllib.request.OpenerDirector) -> None:
    with ScriptedModel([]) as model:
        with direct.open(urllib.request.Request(model.url, method="HEAD"), timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            direct.open(model.url + "/v1/models", timeout=10)


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_can_be_cut(stream: bool) -> None:
    with ScriptedModel([say("Half of this is said.", drop=True)]) as model:
        if stream:
            assert ask(model, question(stream=True))[-1]["type"] != "message_stop"
        else:
            with pytest.raises(ConnectionError):
                ask(model, question())


def test_who_waits_for_an_answer_is_let_go_at_the_end() -> None:
    with ScriptedModel([{"hang": True}]) as model:
        waiting = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c"),
                f"import urllib.request as r; r.urlopen({model.url + '/v1/messages'!r}, b'{{\"tools\":[1]}}')",
            ],
            stderr=subprocess.PIPE,
            env={},
        )
        until(lambda: bool(model.requests))
        assert waiting.poll() is None
    assert b"RemoteDisconnected" in waiting.communicate(timeout=10)[1]


# Scripts


@pytest.mark.parametrize("name", rehearsals.names())
def test_the_scripts_that_ship_can_be_played(name: str) -> None:
    assert parse_script(rehearsals.script(name))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (3, "a list of turns"),
        ({"turns": {}}, "a list of turns"),
        ({"turns": [], "end": 3}, "a list of turns"),
        ([3], "Turn 1 of the rehearsal script needs"),
        ([[], {}], "Turn 2 of the rehearsal script needs"),
        ([{"contents": []}], "Turn 1 of the rehearsal script needs"),
        ([{"hang": True, "times": 0}], "Turn 1 of the rehearsal script needs"),
        ([["text"]], "Turn 1: `content` is a list"),
        ([[{"type": "text"}]], "Turn 1: `content` is a list"),
        ([[{"type": "tool_use"}]], "Turn 1: `content` is a list"),
        ([[{"type": "image"}]], "Turn 1: `content` is a list"),
        ([{"error": {}}], "Turn 1: `error` needs a `status`"),
        ([{"error": 529}], "Turn 1: `error` needs a `status`"),
    ],
)
def test_a_script_that_can_not_be_played(script: object, words: str) -> None:
    with pytest.raises(ScriptInvalid, match=words):
        rehearsals.script(script)


@pytest.mark.parametrize("name", ["no-such", "../rehearsals/hangs", ""])
def test_an_unknown_script(name: str) -> None:
    with pytest.raises(ScriptInvalid, match="There is no rehearsal script"):
        rehearsals.script(name)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
