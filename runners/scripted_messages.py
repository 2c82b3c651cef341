"""As much of Anthropic's Messages API as Claude Code uses, for the scripted model: `/v1/messages`, streamed and not.

Pure: what `scripted_model` plays goes in, what is sent comes out. Standard library only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

PATH = "/v1/messages"
CHUNK: Final = 120  # characters of one streamed piece


def has_tools(body: Mapping[str, Any]) -> bool:
    """Whether the agent asks; else the program asks something of its own, such as a title."""
    return bool(body.get("tools"))


def conversation(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The latest prompt of a request, and what tools returned since. The program's own reminders are left out."""
    prompt, results = "", []
    for message in body.get("messages", []):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        returned = [_result_text(block) for block in blocks if block.get("type") == "tool_result"]
        texts = [block["text"] for block in blocks if block.get("type") == "text"]
        texts = [text for text in texts if not text.startswith("<system-reminder>")]
        results += returned
        if texts and not returned:
            prompt, results = texts[-1], []
    return prompt, results


def answer(
    content: Sequence[Mapping[str, Any]],
    body: Mapping[str, Any],
    *,
    model: str,
    stop_reason: str,
    usage: Mapping[str, int],
) -> dict[str, Any]:
    """A whole message. `model` and `stop_reason`: instead of the one that was asked for, and the usual one."""
    blocks = [
        {"id": f"toolu_{time.time_ns():x}{n}", "input": {}, **block} if block["type"] == "tool_use" else dict(block)
        for n, block in enumerate(content)
    ]
    uses_tools = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": f"msg_{time.time_ns():x}",
        "type": "message",
        "role": "assistant",
        "model": model or body.get("model", ""),
        "content": blocks,
        "stop_reason": stop_reason or ("tool_use" if uses_tools else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["fresh"],
            "cache_creation_input_tokens": usage["written"],
            "cache_read_input_tokens": usage["read"],
            "output_tokens": usage["output"],
        },
    }


def headers(message: Mapping[str, Any]) -> dict[str, str]:
    return {}


def streamed(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of a message, in the order of the Messages API."""
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        yield from _streamed_block(index, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def refusal(error: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an error."""
    kind, message = error.get("type", "api_error"), error.get("message", "")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _streamed_block(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "tool_use":
        start, whole, kind, key = {**block, "input": {}}, json.dumps(block["input"]), "input_json_delta", "partial_json"
    else:
        key = block["type"]
        start, whole, kind = {"type": key, key: ""}, block[key], f"{key}_delta"
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for at in range(0, len(whole), CHUNK):
        yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: whole[at : at + CHUNK]}}
    yield {"type": "content_block_stop", "index": index}


def _result_text(block: Mapping[str, Any]) -> str:
    content = block.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
