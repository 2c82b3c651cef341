import json
import urllib.error
from typing import Any

import pytest

from runners.scripted_model import ScriptedModel
from runners.scripted_responses import answer, conversation, has_tools
from tests.runners.claude_sessions import say, use
from tests.runners.test_scripted_model import ask

PATH = "/v1/responses"
COMMAND = {"type": "function", "name": "exec_command"}
PATCH = {"type": "custom", "name": "apply_patch"}
TOOLS = [COMMAND, PATCH]
USAGE = {"fresh": 8, "written": 10, "read": 100, "output": 3}
NEWER = {
    "type": "additional_tools",
    "role": "developer",
    "tools": [
        {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]},
        {"type": "namespace", "name": "collaboration", "tools": [{"type": "function", "name": "spawn_agent"}]},
    ],
}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def question(*items: dict[str, Any], tools: Any = TOOLS, **changes: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "tools": tools, "input": [*(items or [user("Do it.")])], **changes}


def called(name: str, given: dict[str, Any], *items: dict[str, Any], tools: Any = TOOLS) -> dict[str, Any]:
    """The item by which a tool is called."""
    block = {"type": "tool_use", "name": name, "input": given}
    response = answer([block], question(*items, tools=tools), model="", stop_reason="", usage=USAGE)
    [item] = response["output"]
    return {key: value for key, value in item.items() if key not in ("id", "call_id")}


def command(cmd: str) -> dict[str, Any]:
    return {"type": "function_call", "name": "exec_command", "arguments": json.dumps({"cmd": cmd})}


def test_it_plays_its_turns_and_then_its_end() -> None:
    with ScriptedModel({"turns": [say("One.")], "end": "Over."}) as model:
        answers = [ask(model, question(), PATH) for _ in range(2)]

    assert [a["output"][0]["content"][0]["text"] for a in answers] == ["One.", "Over."]
    assert [request.prompt for request in model.requests] == ["Do it."] * 2
    assert answers[0]["model"] == "gpt-x"


def test_an_answer_is_streamed_as_the_responses_api_streams_it() -> None:
    content = [{"type": "thinking", "thinking": "Hm."}, *say("a" * 300)["content"], *use(("Bash", {"command": "ls"}))]
    with ScriptedModel([content]) as model:
        events = ask(model, question(stream=True), PATH)

    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        *("output_item.added", "output_item.done"),
        *("output_item.added", *["output_text.delta"] * 3, "output_item.done"),
        *("output_item.added", "output_item.done"),
        "completed",
    ]
    assert "".join(event.get("delta", "") for event in events) == "a" * 300
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message", "function_call"]
    assert events[-1]["response"]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("name", "given", "item"),
    [
        ("Bash", {"command": "git log"}, command("git log")),
        ("Read", {"file_path": "/w/a b"}, command("cat -- '/w/a b'")),
        ("Read", {"file_path": "/w/a", "limit": 20}, command("head -n 20 -- /w/a")),
        (
            "Write",
            {"file_path": "/w/a", "content": "one\ntwo\n"},
            {
                "type": "custom_tool_call",
                "name": "apply_patch",
                "input": "*** Begin Patch\n*** Add File: /w/a\n+one\n+two\n*** End Patch\n",
            },
        ),
        (
            "Edit",
            {"file_path": "/w/a", "old_string": "one", "new_string": "two\nthree"},
            {
                "type": "custom_tool_call",
                "name": "apply_patch",
                "input": "*** Begin Patch\n*** Update File: /w/a\n@@\n-one\n+two\n+three\n*** End Patch\n",
            },
        ),
        ("apply_patch", {"patch": "p"}, {"type": "custom_tool_call", "name": "apply_patch", "input": "p"}),
        ("view_image", {"path": "x"}, {"type": "function_call", "name": "view_image", "arguments": '{"path": "x"}'}),
    ],
)
def test_a_script_names_its_tools_as_claude_code_does(name: str, given: dict[str, Any], item: dict[str, Any]) -> None:
    assert called(name, given) == item


def test_where_patches_are_no_tool_they_are_a_command() -> None:
    assert called("apply_patch", {"patch": "a 'b'"}, tools=[COMMAND]) == command("apply_patch 'a '\"'\"'b'\"'\"''")


def test_a_newer_model_calls_tools_from_javascript() -> None:
    bash = called("Bash", {"command": 'echo "x"'}, NEWER, tools=[])
    patch = called("apply_patch", {"patch": "p\n"}, NEWER, tools=[])

    assert (bash["type"], bash["name"], bash["namespace"]) == ("custom_tool_call", "exec", "functions")
    assert bash["input"] == ('const r = await tools.exec_command({"cmd": "echo \\"x\\""}); text(r.output ?? r);')
    assert patch["input"] == 'const r = await tools.apply_patch("p\\n"); text(r);'


def test_what_a_newer_model_is_offered_it_calls_itself() -> None:
    assert called("spawn_agent", {"message": "Hi."}, NEWER, tools=[]) == {
        "type": "function_call",
        "name": "spawn_agent",
        "arguments": '{"message": "Hi."}',
        "namespace": "collaboration",
    }


def test_the_prompt_and_what_tools_returned_since() -> None:
    items = [
        user("First"),
        {"type": "function_call_output", "output": "old"},
        user("Second"),
        user("<environment_context>here</environment_context>"),
        user("<skill>\nx</skill>"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call_output", "output": "Chunk ID: 1\nWall time: 0 seconds\nOutput:\nOutput:\nmine\n"},
        {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "a"}, {"text": "b"}, 3]},
    ]

    assert conversation(question(*items)) == ("Second", ["Output:\nmine\n", "a\nb"])
    assert conversation({"input": "Just text"}) == ("Just text", [])
    assert conversation({"input": None}) == ("", [])


def test_a_question_without_tools_takes_no_turn() -> None:
    assert not has_tools(question(tools=[]))
    assert has_tools(question(NEWER, tools=[]))
    with ScriptedModel([say("One.")]) as model:
        ask(model, question(tools=[]), PATH)
        assert ask(model, question(), PATH)["output"][0]["content"][0]["text"] == "One."


def test_what_was_sent_before_is_read_from_the_cache() -> None:
    with ScriptedModel([]) as model:
        first, second = (ask(model, question(user("x" * 4000)), PATH)["usage"] for _ in range(2))

    assert first["input_tokens_details"]["cached_tokens"] == 0
    assert second["input_tokens_details"]["cached_tokens"] > 900
    assert second["input_tokens"] == first["input_tokens"]


@pytest.mark.parametrize(
    ("stop_reason", "last", "why"),
    [("", "response.completed", None), ("refusal", "response.incomplete", {"reason": "content_filter"})],
)
def test_the_end_of_an_answer(stop_reason: str, last: str, why: object) -> None:
    with ScriptedModel([say("No.", stop_reason=stop_reason, model="gpt-y")]) as model:
        event = ask(model, question(stream=True), PATH)[-1]

    assert (event["type"], event["response"]["incomplete_details"]) == (last, why)
    assert event["response"]["model"] == "gpt-y"


def test_an_error_is_told_as_the_responses_api_tells_it() -> None:
    error = {"status": 400, "type": "invalid_request_error", "code": "too_long", "message": "No"}
    with ScriptedModel([{"error": error}]) as model, pytest.raises(urllib.error.HTTPError) as refused:
        ask(model, question(), PATH)
    with refused.value as response:
        assert json.load(response) == {"error": {"type": "invalid_request_error", "code": "too_long", "message": "No"}}
