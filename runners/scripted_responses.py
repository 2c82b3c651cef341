"""As much of OpenAI's Responses API as Codex uses, for the scripted model: `/v1/responses`, streamed and not.

A script names its tools as Claude Code does, so that one script serves both agents. Here they become what Codex has:
`Bash` and `Read` a command, `Write` and `Edit` (of whole lines) a patch; any other name is called as it stands. Newer
models are offered one tool alone, `exec`, and write JavaScript that calls the others: then it is called so.

Pure: what `scripted_model` plays goes in, what is sent comes out. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

PATH = "/v1/responses"
CHUNK: Final = 120  # characters of one streamed piece

_INCOMPLETE: Final = {"refusal": "content_filter", "max_tokens": "max_output_tokens"}
# What Codex says in the user's name; the rest is a prompt.
_OWN_WORDS: Final = ("<environment_context>", "# AGENTS.md instructions", "<skill>", "<turn_aborted>")
_HEAD_OF_OUTPUT: Final = re.compile(r"\A(?:[^\n]*\n){1,6}?Output:\n")
_numbers = itertools.count(1)


def has_tools(body: Mapping[str, Any]) -> bool:
    """Whether the agent asks; else the program asks something of its own, such as a summary."""
    return bool(_tools(body))


def conversation(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The latest prompt of a request, and what tools returned since. The program's own words are left out."""
    prompt, results = "", []
    for item in _input(body):
        if "output" in item:
            results.append(_HEAD_OF_OUTPUT.sub("", _text(item["output"])))
        elif item.get("role") == "user" and not (text := _text(item.get("content"))).startswith(_OWN_WORDS):
            prompt, results = text, []
    return prompt, results


def answer(
    content: Sequence[Mapping[str, Any]],
    body: Mapping[str, Any],
    *,
    model: str,
    stop_reason: str,
    usage: Mapping[str, int],
) -> dict[str, Any]:
    """A whole response. `model` and `stop_reason`: instead of the one that was asked for, and the usual one."""
    tools = _tools(body)
    total = usage["fresh"] + usage["written"] + usage["read"]
    incomplete = _INCOMPLETE.get(stop_reason)
    return {
        "id": _made_id("resp"),
        "object": "response",
        "status": "incomplete" if incomplete else "completed",
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": model or body.get("model", ""),
        "output": [_item(block, tools) for block in content],
        "usage": {
            "input_tokens": total,
            "input_tokens_details": {"cached_tokens": usage["read"]},
            "output_tokens": usage["output"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": total + usage["output"],
        },
    }


def headers(response: Mapping[str, Any]) -> dict[str, str]:
    """Codex looks here for the model that answers."""
    return {"openai-model": str(response["model"])}


def streamed(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of a response, in the order of the Responses API."""
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": [], "usage": None}}
    for index, item in enumerate(response["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress"}}
        for text in _pieces(item):
            yield {"type": "response.output_text.delta", "output_index": index, "item_id": item["id"], "delta": text}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def refusal(error: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an error, with what else its script tells, such as `resets_at` of a usage limit."""
    kind = error.get("type", "server_error")
    more = {name: value for name, value in error.items() if name not in ("status", "headers")}
    return {"error": {"code": kind, "message": "", **more, "type": kind}}


def _input(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [item for item in given if isinstance(item, Mapping)] if isinstance(given, list) else []


def _text(content: object) -> str:
    """The text of what is a text, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _tools(body: Mapping[str, Any]) -> dict[str, str]:
    """The tools that are offered, in the request or, to newer models, in its input: name → namespace."""
    offered = list(body.get("tools") or ())
    offered += [tool for item in _input(body) if item.get("type") == "additional_tools" for tool in item["tools"]]
    found = {}
    for tool in offered:
        is_group = tool.get("type") == "namespace"
        for each in tool.get("tools", ()) if is_group else (tool,):
            found[str(each.get("name") or each.get("type"))] = str(tool["name"]) if is_group else ""
    return found


def _item(block: Mapping[str, Any], tools: Mapping[str, str]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            content = [{"type": "output_text", "text": block["text"], "annotations": []}]
            return {"type": "message", "id": _made_id("msg"), "role": "assistant", "content": content}
        case "thinking":
            summary = [{"type": "summary_text", "text": block["thinking"]}]
            return {"type": "reasoning", "id": _made_id("rs"), "summary": summary, "encrypted_content": ""}
    name, given = _translated(block["name"], block.get("input") or {})
    if (
        name not in tools and "exec" not in tools and name.startswith("mcp__")
    ):  # it is not offered before it is looked for
        server, _, tool = name.removeprefix("mcp__").partition("__")
        return {**_call(tool, given), "namespace": f"mcp__{server}"}
    if name not in tools and "exec" in tools:
        name, given = "exec", _script(name, given)
    elif name not in tools and name == "apply_patch":  # of a model that Codex does not know it is a command
        name, given = "exec_command", {"cmd": f"apply_patch {shlex.quote(str(given))}"}
    namespace = {"namespace": tools[name]} if tools.get(name) else {}
    return {**_call(name, given), **namespace}


def _call(name: str, given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A tool that takes a text is called in another way than one that takes an object."""
    called = {"call_id": _made_id("call"), "name": name}
    if isinstance(given, str):
        return {"type": "custom_tool_call", "id": _made_id("ctc"), **called, "input": given}
    return {"type": "function_call", "id": _made_id("fc"), **called, "arguments": json.dumps(given)}


def _script(name: str, given: str | Mapping[str, Any]) -> str:
    """The JavaScript that calls a tool and says what it returned. JSON is JavaScript."""
    shown = "r.output ?? r" if name == "exec_command" else "r"
    return f"const r = await tools.{name}({json.dumps(given)}); text({shown});"


def _translated(name: str, given: Mapping[str, Any]) -> tuple[str, str | Mapping[str, Any]]:
    """What Codex would call where Claude Code calls this."""
    path = str(given.get("file_path", ""))
    match name:
        case "Bash":
            return "exec_command", {"cmd": given.get("command", "")}
        case "Read":
            read = f"head -n {int(given['limit'])}" if "limit" in given else "cat"
            return "exec_command", {"cmd": f"{read} -- {shlex.quote(path)}"}
        case "Write":
            return "apply_patch", _patch(f"*** Add File: {path}", _marked("+", given.get("content", "")))
        case "Edit":
            changed = _marked("-", given.get("old_string", "")) + _marked("+", given.get("new_string", ""))
            return "apply_patch", _patch(f"*** Update File: {path}", ["@@", *changed])
        case "apply_patch":
            return name, str(given.get("patch", ""))
    return name, given


def _patch(head: str, lines: Sequence[str]) -> str:
    return "\n".join(["*** Begin Patch", head, *lines, "*** End Patch", ""])


def _marked(mark: str, text: str) -> list[str]:
    return [f"{mark}{line}" for line in text.splitlines()]


def _pieces(item: Mapping[str, Any]) -> Iterator[str]:
    whole = _text(item.get("content")) if item["type"] == "message" else ""
    for at in range(0, len(whole), CHUNK):
        yield whole[at : at + CHUNK]


def _made_id(prefix: str) -> str:
    return f"{prefix}_{time.time_ns():x}{next(_numbers)}"
