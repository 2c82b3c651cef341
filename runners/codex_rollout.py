"""What Codex keeps of a conversation: its rollout, one JSON object a line, below CODEX_HOME/sessions.

It is what a later session goes on from, and it tells what `codex exec --json` does not print: the model, each answer
with its tokens, subagents' among them, what was said last, and that no sandbox could be made. Codex has one CODEX_HOME
a session here, so that every rollout in it is the session's own. The agent can't write there: its sandbox does not let
it.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from runners.agent_lines import frame_of, text_of
from runners.base import Event, Line
from runners.codex_stream import tokens

# The program that makes the sandbox, where it can't. Of such a command Codex prints nothing.
_NO_SANDBOX: Final = re.compile(r'(?:^|"output":")(bwrap: [^"\n\\]{1,300})', re.MULTILINE)
_NAME: Final = re.compile(r"rollout-.*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl")


@dataclass(kw_only=True)
class Account:
    """What the rollouts of a session tell of it."""

    model: str = ""  # that was asked
    answers: list[Event] = field(default_factory=list)  # a `usage` event for each answer of a model
    is_complete: bool = False  # the turn came to its end, in success or not
    last_words: str = ""  # of its last answer; empty also where that was without words
    no_sandbox: str = ""  # why commands could not be run at all


def find(codex_home: Path) -> list[Path]:
    """The rollouts below CODEX_HOME, the session's own first and its subagents' after. Links lead nowhere."""
    folder = (codex_home / "sessions").resolve()
    files = sorted(folder.rglob("rollout-*.jsonl"))
    return [file for file in files if _NAME.fullmatch(file.name) and file.resolve() == file and file.is_file()]


def thread_id(file: Path) -> str:
    """The conversation that a rollout's name tells."""
    name = _NAME.fullmatch(file.name)
    return name[1] if name else ""


def account(files: Sequence[Path], *, thread: str, earlier: Path | None = None) -> Account:
    """What rollouts tell of the session whose conversation is `thread`. `earlier`: the rollout it went on from."""
    told = Account()
    known = {text_of(payload, "turn_id") for _, payload in _records(earlier)} - {""} if earlier else set()
    for file in files:
        is_own, model = thread_id(file) == thread, ""
        for kind, payload in _records(file):
            if kind == "turn_context":
                model = text_of(payload, "model")
                told.model = model if is_own else told.model
            elif kind == "token_usage_record" and text_of(payload, "turn_id") not in known:
                told.answers.append(_usage(payload, is_own=text_of(payload, "thread_id") == thread, model=model))
            elif kind == "event_msg" and is_own:
                _note(told, payload)
            elif kind == "response_item" and (obstacle := _NO_SANDBOX.search(_output(payload))):
                told.no_sandbox = obstacle[1]
    return told


def as_conversation(data: bytes, *, thread: str) -> tuple[PurePosixPath, bytes]:
    """Where below CODEX_HOME a kept rollout goes, and its bytes, so that it is the conversation `thread`.

    What the earlier session was told of its surroundings, and as its instructions, is left out: Codex would not tell
    the new ones where it finds the old. Raises ValueError where it is no rollout.
    """
    lines = data.splitlines(keepends=True)
    meta = _record(lines[0]) if lines else None
    if meta is None or meta[0] != "session_meta":
        raise ValueError("it does not begin as a rollout of Codex does")
    earlier = str(uuid.UUID(text_of(meta[1], "id")))
    said = b"".join(line for line in lines if not _is_context(line))
    name = f"rollout-2000-01-01T00-00-00-{thread}.jsonl"
    return PurePosixPath("sessions", "2000", "01", "01", name), said.replace(earlier.encode(), thread.encode())


def _is_context(line: bytes) -> bool:
    kind, payload = _record(line) or ("", {})
    return kind in ("turn_context", "world_state") or (kind == "response_item" and payload.get("role") == "developer")


def _note(told: Account, payload: Mapping[str, Any]) -> None:
    match payload.get("type"):
        case "task_started":
            told.is_complete, told.last_words, told.no_sandbox = False, "", ""
        case "task_complete":
            told.is_complete, told.last_words = True, text_of(payload, "last_agent_message")


def _output(payload: Mapping[str, Any]) -> str:
    """What a tool returned."""
    output = payload.get("output")
    parts = [part for part in output if isinstance(part, dict)] if isinstance(output, list) else []
    return output if isinstance(output, str) else "\n".join(text_of(part, "text") for part in parts)


def _usage(payload: Mapping[str, Any], *, is_own: bool, model: str) -> Event:
    usage = payload.get("usage")
    spent = tokens(usage if isinstance(usage, dict) else {})
    data = {"answer_id": text_of(payload, "response_id"), "model": model, "subagent": not is_own, **spent}
    return Event(kind="usage", at_ms=0, data=data)


def _records(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line's type and payload; what is no such line, or can't be read, is left out."""
    with contextlib.suppress(OSError), file.open("rb") as lines:
        yield from filter(None, map(_record, lines))


def _record(data: bytes) -> tuple[str, Mapping[str, Any]] | None:
    frame = frame_of(Line(at_ms=0, stream="out", data=data))
    payload = frame.get("payload") if frame else None
    return (text_of(frame, "type"), payload) if frame and isinstance(payload, dict) else None
