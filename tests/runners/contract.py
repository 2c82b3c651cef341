"""How each runner is made to do what the cases of the contract suite want, and a session carried out by the door alone.

A runner more is one entry more in SUBJECTS: its path, the reason code of its own failure, whether it goes on with
conversations, and a function that gives for a deed of DEEDS the spec of a session that does it.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from runners import (
    Conversation,
    Ending,
    Event,
    Limits,
    Line,
    Runner,
    SessionResult,
    SessionSpec,
    Tally,
    add_event,
    ending_or_died,
    load_runner,
    read_lines,
    request_stop,
    start,
)
from runners.scripted_model import ScriptedModel, parse_script
from tests.runners import census, codex_sessions, tinker
from tests.runners.claude_sessions import QUICK, say, use

Deed = Literal["succeed", "edit", "fail", "hang", "flood"]
"""What a session is to do: answer `I am Ada.`; write `Written.` to notes.md; fail by its own fault; print something and
then nothing for ever; print half a megabyte and more, and then answer `Done.`"""
DEEDS: Sequence[Deed] = get_args(Deed)

FLOOD_CAP = 100_000  # bytes kept of a flood
PATIENCE = 120.0  # seconds for a machine out of breath


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A session that waits to be carried out. `heard`: all that its model was asked; it has one if it is an agent."""

    spec: SessionSpec
    heard: Callable[[], str] = str


Ask = Callable[..., AbstractContextManager[Asked]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A runner, as the suite knows it. `ask(deed, folder, **fields of the spec)`."""

    path: str  # as in ROTA_RUNNERS
    ask: Ask
    failure: str  # the reason code of the deed `fail`
    resumes: bool = False
    obstacle: Callable[[], str] = str  # why it can't be run here; empty: it can
    load: Callable[[], Runner] | None = None

    @property
    def runner(self) -> Runner:
        return self.load() if self.load else load_runner(self.path)


@dataclass(kw_only=True)
class Session:
    """What came of one."""

    spec: SessionSpec
    ending: Ending
    lines: list[Line]
    result: SessionResult
    events: list[Event] = field(default_factory=list)


def make_spec(folder: Path, **changes: Any) -> SessionSpec:
    """A spec with places in `folder`, and a README in its workspace unless another workspace is given."""
    given: dict[str, Any] = {
        "agent_session_id": str(uuid.uuid4()),
        "folder": folder / "session",
        "home": folder / "session" / "home",
        "workspace": folder / "workspace",
        "prompt": "Who are you?\n",
    }
    spec = SessionSpec(**{**given, **changes})
    spec.folder.mkdir(mode=0o700, parents=True)
    if not spec.workspace.exists():
        spec.workspace.mkdir()
        (spec.workspace / "README.md").write_text("A small project.\n")
    return spec


def carry_out(runner: Runner, spec: SessionSpec, *, cancel: bool = False, **limits: Any) -> Session:
    """From the launch to the verdict, as a worker does it. `limits` in seconds and bytes. Nobody is left behind.

    `cancel`: as soon as it has printed something.
    """
    start(spec.folder, runner.launch(spec), cwd=spec.workspace, limits=_limits(**limits))
    lines: list[Line] = []
    events: list[Event] = []
    tally, offset, deadline = Tally(), 0, time.monotonic() + PATIENCE
    while True:
        ending = ending_or_died(spec.folder)
        more, offset = read_lines(spec.folder, offset)
        lines += more
        for event in (event for line in more for event in runner.read(line)):
            events.append(event)
            add_event(tally, event)
        if ending and not more:
            break
        if cancel and lines:
            request_stop(spec.folder, "cancelled")
        assert time.monotonic() < deadline, "the session did not end"
        time.sleep(0.02)
    result = runner.judge(ending, tally, spec)
    census.assert_gone(str(spec.folder), within=20)
    return Session(spec=spec, ending=ending, lines=lines, events=events, result=result)


def _limits(*, timeout: float = 90, silence: float | None = None, output_bytes: int = 10_000_000) -> Limits:
    return Limits(
        timeout=timedelta(seconds=timeout),
        silence=None if silence is None else timedelta(seconds=silence),
        output_bytes=output_bytes,
        result_grace=timedelta(seconds=10),
        kill_grace=timedelta(seconds=3),
    )


# --- agents, with the same script for each

_WRITES = ("Write", {"file_path": "{{ workspace }}/notes.md", "content": "Written.\n"})
_CHATTERS = {"content": [*say("x" * 100_000)["content"], *use(_WRITES)], "times": 6}
_REFUSES = {"error": {"status": 401, "type": "authentication_error", "message": "invalid key"}, "times": 100}
SCRIPTS: Mapping[Deed, list[Any]] = {
    "succeed": [say("I am Ada.")],
    "edit": [use(_WRITES), say("I wrote it.")],
    "fail": [_REFUSES],
    "hang": [{"hang": True, "times": 100}],
    "flood": [_CHATTERS, say("Done.")],
}


def _agent(options: Mapping[str, Any], environment: Callable[[str], dict[str, str]], program: Callable[[], str]) -> Ask:
    """`environment`: of a session whose model is at this address."""

    @contextlib.contextmanager
    def ask(deed: Deed, folder: Path, **changes: Any) -> Iterator[Asked]:
        workspace = changes.get("workspace") or folder / "workspace"
        with ScriptedModel(parse_script(SCRIPTS[deed]), workspace=str(workspace)) as model:
            given = {"options": options, "environment": environment(model.url), "program": program()}
            spec = make_spec(folder, **{**given, **changes})
            yield Asked(spec=spec, heard=lambda: json.dumps([request.body for request in model.requests]))

    return ask


def _claude(url: str) -> dict[str, str]:
    return {**QUICK, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "made-up"}


def _codex(url: str) -> dict[str, str]:
    """Whatever else Codex might talk to, it would ask a proxy that is not there."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    return {**nowhere, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "made-up"}


def _no_codex() -> str:
    return "" if codex_sessions.program() else codex_sessions.NO_CODEX


# --- programs and functions

_SHELL: Mapping[Deed, str] = {
    "succeed": "echo 'I am Ada.'",
    "edit": "echo Written. > notes.md; echo 'I wrote it.'",
    "fail": "echo 'no such table' >&2; exit 3",
    "hang": "echo up; exec sleep 600",
    "flood": "yes 'a line' | head -c 600000; echo Done. > \"$ROTA_RESULT_FILE\"",
}
_ADA, _DONE = ({"done": words, "tokens": 12} for words in ("I am Ada.", "Done."))
_TINKER: Mapping[Deed, str] = {
    "succeed": tinker.tells(_ADA),
    "edit": f"echo Written. > notes.md; {tinker.tells(_ADA)}",
    "fail": "exit 3",
    "hang": f"{tinker.tells({'say': 'I look.'})}; exec sleep 600",
    "flood": f"yes '{json.dumps({'say': 'a line'})}' | head -n 30000; {tinker.tells(_DONE)}",
}


@contextlib.contextmanager
def _script(deed: Deed, folder: Path, **changes: Any) -> Iterator[Asked]:
    yield Asked(spec=make_spec(folder, options={"argv": ["sh", "-c", _SHELL[deed]]}, **changes))


@contextlib.contextmanager
def _function(deed: Deed, folder: Path, **changes: Any) -> Iterator[Asked]:
    options = {"function": deed, "function_path": f"tests.runners.contract_functions.{deed}"}
    yield Asked(spec=make_spec(folder, options=options, **changes))


@contextlib.contextmanager
def _tinker(deed: Deed, folder: Path, **changes: Any) -> Iterator[Asked]:
    folder.mkdir(exist_ok=True)
    program = tinker.program(folder, _TINKER[deed])
    yield Asked(spec=make_spec(folder, options={"model": "tinker-2"}, program=program, **changes))


SUBJECTS: Mapping[str, Subject] = {
    "claude": Subject(
        path="runners.claude.ClaudeRunner",
        ask=_agent({"model": "haiku", "allowed_tools": ["Write"]}, _claude, str),
        failure="auth",
        resumes=True,
    ),
    "codex": Subject(
        path="runners.codex.CodexRunner",
        ask=_agent({"model": "gpt-5.5"}, _codex, codex_sessions.program),
        failure="auth",
        resumes=True,
        obstacle=_no_codex,
    ),
    "script": Subject(path="runners.script.ScriptRunner", ask=_script, failure="exit_code"),
    "function": Subject(path="runners.function.FunctionRunner", ask=_function, failure="exception"),
    # The one that docs/runners.md shows, and so not in any settings.
    "tinker": Subject(path="", load=tinker.documented_runner, ask=_tinker, failure="no_result"),
}


def some_conversation(folder: Path) -> Conversation:
    """One that another runner kept."""
    file = folder / "conversation.jsonl"
    file.write_text('{"type": "user"}\n')
    return Conversation(agent_session_id=str(uuid.uuid4()), file=file)
