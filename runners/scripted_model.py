"""A scripted model on loopback, so that a real agent program can be run with no key and at no cost.

It speaks as much of Anthropic's Messages API as Claude Code uses: `/v1/messages`, streamed and not, with token counts,
and `/v1/messages/count_tokens`.

    with ScriptedModel(script) as model:     # start a program with ANTHROPIC_BASE_URL=model.url
        ...
        model.requests                       # what it was asked

A script is data (JSON; some stand in `runners.rehearsals`): a list of turns, or `{"turns": [...], "end": "what to say
when they are used up"}`. A turn is a list of content blocks as in the Messages API, or an object with one of

    content    the blocks; beside it: delay (seconds before the answer), model, stop_reason, headers
    error      {status, type, message, headers}: answered in place of a message
    hang       true: no answer until the program gives up
    drop       true: the connection is cut in the middle of the answer; beside it: content

and `times`, how often in a row (1). In every text `{{ prompt }}`, `{{ results }}` (what tools returned since),
`{{ model }}` and `{{ workspace }}` are filled in. A question without tools is the program's own (a title, a summary)
and takes no turn. Standard library only, and no import of this package: `rehearsal` loads it by its path.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

CHUNK: Final = 120  # characters of one streamed piece
CHARACTERS_PER_TOKEN: Final = 4
USED_UP: Final = "The script of this rehearsal is used up."


class ScriptInvalid(ValueError):
    """A rehearsal script that can't be played. The text says where and what."""


@dataclass(frozen=True, slots=True)
class Turn:
    content: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    hang: bool = False
    drop: bool = False
    delay: float = 0.0
    model: str = ""
    stop_reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    turns: tuple[Turn, ...] = ()
    end: str = USED_UP


@dataclass(frozen=True, slots=True)
class Request:
    """What the program asked: path, headers (lower-case names) and body."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        return _conversation(self.body)[0]


def parse_script(data: object) -> Script:
    """A script from its JSON data. Raises ScriptInvalid."""
    end = USED_UP
    if isinstance(data, Mapping):
        end = data.get("end", USED_UP)
        data = data.get("turns", [])
    if not isinstance(data, list) or not isinstance(end, str):
        raise ScriptInvalid("A rehearsal script is a list of turns, or an object with `turns` and `end`.")
    return Script(tuple(turn for n, item in enumerate(data, 1) for turn in _turns(item, n)), end)


def _turns(item: object, number: int) -> list[Turn]:
    given: dict[str, Any] = (
        {"content": item} if isinstance(item, list) else dict(item) if isinstance(item, Mapping) else {}
    )
    times = given.pop("times", 1)
    unknown = set(given) - set(Turn.__dataclass_fields__)
    if not given or unknown or not isinstance(times, int) or times < 1:
        raise ScriptInvalid(f"Turn {number} of the rehearsal script needs `content`, `error`, `hang` or `drop`.")
    content = given.get("content", [])
    if not isinstance(content, list) or not all(_is_block(block) for block in content):
        raise ScriptInvalid(f"Turn {number}: `content` is a list of text and tool_use blocks.")
    if "error" in given and not isinstance(_status_of(given["error"]), int):
        raise ScriptInvalid(f"Turn {number}: `error` needs a `status`, such as 529.")
    return [Turn(**{**given, "content": tuple(content)})] * times


def _is_block(block: object) -> bool:
    if not isinstance(block, Mapping):
        return False
    if block.get("type") in ("text", "thinking"):
        return isinstance(block.get(block["type"]), str)
    return block.get("type") == "tool_use" and isinstance(block.get("name"), str)


def _status_of(error: object) -> object:
    return error.get("status") if isinstance(error, Mapping) else None


class ScriptedModel:
    """The model and its server on loopback, from `with` to the end of its block.

    `listening`: a socket that listens already; without one it takes a free port. `keep_requests`: for a look at them.
    """

    def __init__(
        self,
        script: object,
        *,
        workspace: str = "",
        keep_requests: bool = True,
        listening: socket.socket | None = None,
    ) -> None:
        self.script = script if isinstance(script, Script) else parse_script(script)
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._workspace = workspace
        self._keep_requests = keep_requests
        self._turn = 0
        self._cached = 0
        self._lock = threading.Lock()
        self._server = _Server(self, listening or socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedModel:
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        serve.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_turn(self, request: Request) -> Turn:
        """The turn that answers this request, with its texts filled in."""
        if not request.body.get("tools"):
            return Turn(content=({"type": "text", "text": "A rehearsal"},))
        with self._lock:
            if self._keep_requests:
                self.requests.append(request)
            at, self._turn = self._turn, self._turn + 1
        if at < len(self.script.turns):
            turn = self.script.turns[at]
        else:
            turn = Turn(content=({"type": "text", "text": self.script.end},))
        prompt, results = _conversation(request.body)
        values = {
            "prompt": _quoted(prompt),
            "results": _fenced("\n".join(results)),
            "model": str(request.body.get("model", "")),
            "workspace": self._workspace,
        }
        content = tuple(_filled(block, values) for block in turn.content)
        return replace(turn, content=content)

    def usage(self, request_bytes: int, answer: object) -> dict[str, Any]:
        """Token counts as a model that caches prompts would give them: what was sent before is read from the cache."""
        total = request_bytes // CHARACTERS_PER_TOKEN
        fresh = min(total, 8)
        with self._lock:
            read, self._cached = min(self._cached, total - fresh), total - fresh
        return {
            "input_tokens": fresh,
            "cache_creation_input_tokens": total - fresh - read,
            "cache_read_input_tokens": read,
            "output_tokens": max(1, len(json.dumps(answer)) // CHARACTERS_PER_TOKEN),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, model: ScriptedModel, listening: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_address = listening.getsockname()
        self.model = model

    def handle_error(self, request: object, client_address: object) -> None:
        """A program that hangs up in the middle of an answer is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Silent: standard error belongs to the program."""

    def do_HEAD(self) -> None:
        self._reply(200, b"")

    def do_GET(self) -> None:
        self._error({"status": 404, "type": "not_found_error", "message": "The scripted model has no such page."})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        path = self.path.partition("?")[0]
        if not isinstance(body, dict) or not path.startswith("/v1/messages"):
            self._error({"status": 400, "type": "invalid_request_error", "message": "Not a request for a message."})
            return
        if path.endswith("/count_tokens"):
            self._reply(200, json.dumps({"input_tokens": len(raw) // CHARACTERS_PER_TOKEN}).encode())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(self.server.model.next_turn(Request(path, headers, body)), body, len(raw))

    def _answer(self, turn: Turn, body: Mapping[str, Any], request_bytes: int) -> None:
        model = self.server.model
        if turn.hang:
            model.closing.wait()
            self.close_connection = True
            return
        if turn.delay:
            model.closing.wait(turn.delay)
        if turn.error is not None:
            self._error(turn.error)
            return
        message = self._message(turn, body, request_bytes)
        if turn.drop and not body.get("stream"):
            self.close_connection = True
            return
        if not body.get("stream"):
            self._reply(200, json.dumps(message).encode(), turn.headers)
            return
        self._begin(200, "text/event-stream", turn.headers)
        events = list(_streamed(message))
        for event in events[: len(events) // 2] if turn.drop else events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.close_connection = True

    def _message(self, turn: Turn, body: Mapping[str, Any], request_bytes: int) -> dict[str, Any]:
        content = [
            {"id": f"toolu_{time.time_ns():x}{n}", "input": {}, **block} if block["type"] == "tool_use" else dict(block)
            for n, block in enumerate(turn.content)
        ]
        uses_tools = any(block["type"] == "tool_use" for block in content)
        return {
            "id": f"msg_{time.time_ns():x}",
            "type": "message",
            "role": "assistant",
            "model": turn.model or body.get("model", ""),
            "content": content,
            "stop_reason": turn.stop_reason or ("tool_use" if uses_tools else "end_turn"),
            "stop_sequence": None,
            "usage": self.server.model.usage(request_bytes, content),
        }

    def _error(self, error: Mapping[str, Any]) -> None:
        kind, message = error.get("type", "api_error"), error.get("message", "")
        data = {"type": "error", "error": {"type": kind, "message": message}}
        self._reply(error["status"], json.dumps(data).encode(), error.get("headers", {}))

    def _reply(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, "application/json", {**(headers or {}), "Content-Length": str(len(data))})
        self.wfile.write(data)

    def _begin(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if "Content-Length" not in headers:
            self.send_header("Connection", "close")
        self.end_headers()


def _streamed(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of a message, in the order of the Messages API."""
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        yield from _streamed_block(index, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


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


def _conversation(body: Mapping[str, Any]) -> tuple[str, list[str]]:
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


def _result_text(block: Mapping[str, Any]) -> str:
    content = block.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{\{ (\w+) \}\}", lambda found: values.get(found[1], found[0]), value)
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return value


def _quoted(text: str) -> str:
    lines = text.strip().splitlines() or ["(it was empty)"]
    more = [f"> … ({len(lines) - 10} more lines)"] if len(lines) > 10 else []
    return "\n".join([f"> {line[:300]}" for line in lines[:10]] + more)


def _fenced(text: str) -> str:
    lines = text.strip().splitlines() or ["(nothing)"]
    shown = "\n".join(line[:300] for line in lines[:20])
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", shown)), default=0))
    return f"{fence}text\n{shown}\n{fence}"
