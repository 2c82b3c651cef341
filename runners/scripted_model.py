"""A scripted model on loopback, so that a real agent program can be run with no key and at no cost.

It speaks Anthropic's Messages API, as much of it as Claude Code uses, and OpenAI's Responses API, as much of it as
Codex uses: streamed and not, with token counts. What is said in which way is with `scripted_messages` and
`scripted_responses`.

    with ScriptedModel(script) as model:     # start a program with, say, ANTHROPIC_BASE_URL=model.url
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
and takes no turn. Tools are named as Claude Code names them, whoever asks. Standard library only, and of this package
nothing that needs more: `rehearsal` starts quickly.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

from runners import scripted_messages, scripted_responses

CHARACTERS_PER_TOKEN: Final = 4
USED_UP: Final = "The script of this rehearsal is used up."


class Api(Protocol):
    """How a model is asked, and answers, in one of the APIs that agent programs use. A module is one."""

    PATH: str  # where questions are posted

    def has_tools(self, body: Mapping[str, Any]) -> bool: ...

    def conversation(self, body: Mapping[str, Any]) -> tuple[str, list[str]]: ...

    def answer(
        self,
        content: Sequence[Mapping[str, Any]],
        body: Mapping[str, Any],
        *,
        model: str,
        stop_reason: str,
        usage: Mapping[str, int],
    ) -> dict[str, Any]: ...

    def headers(self, answer: Mapping[str, Any], /) -> dict[str, str]: ...

    def streamed(self, answer: Mapping[str, Any], /) -> Iterator[dict[str, Any]]: ...

    def refusal(self, error: Mapping[str, Any]) -> dict[str, Any]: ...


APIS: Final[tuple[Api, ...]] = (scripted_messages, scripted_responses)


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
        return _api_of(self.path).conversation(self.body)[0]


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
        api = _api_of(request.path)
        if not api.has_tools(request.body):
            return Turn(content=({"type": "text", "text": "A rehearsal"},))
        with self._lock:
            if self._keep_requests:
                self.requests.append(request)
            at, self._turn = self._turn, self._turn + 1
        if at < len(self.script.turns):
            turn = self.script.turns[at]
        else:
            turn = Turn(content=({"type": "text", "text": self.script.end},))
        prompt, results = api.conversation(request.body)
        values = {
            "prompt": _quoted(prompt),
            "results": _fenced("\n".join(results)),
            "model": str(request.body.get("model", "")),
            "workspace": self._workspace,
        }
        content = tuple(_filled(block, values) for block in turn.content)
        return replace(turn, content=content)

    def usage(self, request_bytes: int, content: object) -> dict[str, int]:
        """Token counts as a model that caches prompts would give them: what was sent before is read from the cache."""
        total = request_bytes // CHARACTERS_PER_TOKEN
        fresh = min(total, 8)
        with self._lock:
            read, self._cached = min(self._cached, total - fresh), total - fresh
        output = max(1, len(json.dumps(content)) // CHARACTERS_PER_TOKEN)
        return {"fresh": fresh, "written": total - fresh - read, "read": read, "output": output}


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
        if not isinstance(body, dict) or not path.startswith(tuple(api.PATH for api in APIS)):
            self._error({"status": 400, "type": "invalid_request_error", "message": "Not a question to a model."})
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
        api = _api_of(self.path)
        usage = model.usage(request_bytes, turn.content)
        answer = api.answer(turn.content, body, model=turn.model, stop_reason=turn.stop_reason, usage=usage)
        headers = {**api.headers(answer), **turn.headers}
        if turn.drop and not body.get("stream"):
            self.close_connection = True
            return
        if not body.get("stream"):
            self._reply(200, json.dumps(answer).encode(), headers)
            return
        self._begin(200, "text/event-stream", headers)
        events = list(api.streamed(answer))
        for event in events[: len(events) // 2] if turn.drop else events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.close_connection = True

    def _error(self, error: Mapping[str, Any]) -> None:
        data = json.dumps(_api_of(self.path).refusal(error)).encode()
        self._reply(error["status"], data, error.get("headers", {}))

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


def _api_of(path: str) -> Api:
    """The module that speaks the API of a path; of a path that nobody knows, the first one."""
    return next((api for api in APIS if path.startswith(api.PATH)), APIS[0])


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
