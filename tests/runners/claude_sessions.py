"""Sessions of the real Claude Code against a scripted model, for tests and for recording streams. No shim is involved.

Started by hand it records the streams anew, which a new version of the program calls for:

    python -m tests.runners.claude_sessions
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners import rehearsals, tallying
from runners.base import Ending, Event, Launch, Line, Runner, SessionResult, SessionSpec, Tally
from runners.claude import ClaudeRunner
from runners.scripted_model import Request, ScriptedModel

STREAMS = Path(__file__).parent / "streams"
OPTIONS: Mapping[str, Any] = {"model": "haiku"}
QUICK = {"CLAUDE_CODE_MAX_RETRIES": "1"}


@dataclass(kw_only=True)
class Session:
    """What came of one session."""

    runner: Runner
    spec: SessionSpec
    launch: Launch
    lines: list[Line]
    ending: Ending
    requests: Sequence[Request] = ()
    events: list[Event] = field(init=False)
    tally: Tally = field(init=False)
    result: SessionResult = field(init=False)

    def __post_init__(self) -> None:
        self.events = [event for line in self.lines for event in self.runner.read(line)]
        self.tally = Tally()
        for event in self.events:
            tallying.add(self.tally, event)
        self.result = self.runner.judge(self.ending, self.tally, self.spec)


def make_spec(folder: Path, **changes: Any) -> SessionSpec:
    """A spec whose workspace is a folder with a README. Options are added to OPTIONS."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "README.md").write_text("A small project.\n")
    changes["options"] = {**OPTIONS, **changes.get("options", {})}
    given = {
        "agent_session_id": str(uuid.uuid4()),
        "folder": folder,
        "home": folder / "home",
        "workspace": workspace,
        "prompt": "Do it.",
    }
    return SessionSpec(**{**given, **changes})


def run(spec: SessionSpec, *, seconds: float = 30.0, ended_by: str = "timed_out") -> Session:
    """Start what `launch` says, as the shim would, and wait; what lasts longer than `seconds` is killed."""
    runner = ClaudeRunner()
    launch = runner.launch(spec)
    for name, content in launch.files.items():
        file = spec.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    begun = time.time_ns() // 1_000_000
    with (spec.home / launch.stdin_file).open("rb") as prompt:
        process = subprocess.Popen(
            launch.argv,
            cwd=spec.workspace,
            env=dict(launch.environment),
            stdin=prompt,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(timeout=seconds)
            how = ""
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
            how = ended_by
    lines = [Line(at_ms=begun, stream="out", data=data) for data in out.splitlines()]
    lines += [Line(at_ms=begun, stream="err", data=data) for data in err.splitlines()]
    ending = make_ending(process.returncode, how, begun)
    return Session(runner=runner, spec=spec, launch=launch, lines=lines, ending=ending)


def make_ending(code: int, ended_by: str = "", at_ms: int = 0, **changes: Any) -> Ending:
    given = {
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "ended_by": ended_by,
        "started_at_ms": at_ms,
        "ended_at_ms": at_ms,
        "output_bytes": 0,
    }
    return Ending(**{**given, **changes})


def converse(folder: Path, script: object, *, seconds: float = 30.0, **changes: Any) -> Session:
    """A session against a scripted model in this process: what the model was asked is in `requests`."""
    with ScriptedModel(rehearsals.script(script), workspace=str(folder / "workspace")) as model:
        here = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"}
        changes["environment"] = {**QUICK, **here, **changes.get("environment", {})}
        session = run(make_spec(folder, **changes), seconds=seconds)
        session.requests = model.requests
    return session


def say(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def use(*tools: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "tool_use", "name": name, "input": given} for name, given in tools]


_READ = ("Read", {"file_path": "README.md"})
_LIMIT_REACHED = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": "1795200000",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
}

# name → what to play and with what
RECORDED: Mapping[str, tuple[object, dict[str, Any]]] = {
    "success": ([say("All is well. Nothing to do.")], {}),
    "writes-a-file": ("writes-a-file", {"options": {"allowed_tools": ["Write"]}}),
    "denied": ("asks-for-what-is-denied", {}),
    "many-tools-at-once": ([use(_READ, _READ, _READ), say("Read thrice.")], {"options": {"max_turns": 2}}),
    "max-turns": ("never-ends", {"options": {"max_turns": 2}}),
    "budget": ("never-ends", {"options": {"max_budget_usd": "0.000001"}}),
    "says-nothing": ("says-nothing", {}),
    "another-model": ("another-model-answers", {}),
    "fell-back": (
        [{"error": {"status": 529, "type": "overloaded_error", "message": "Overloaded"}, "times": 3}, say("Here.")],
        {"options": {"fallback_model": "sonnet"}, "environment": {"CLAUDE_CODE_MAX_RETRIES": "2"}},
    ),
    "refused": ([say("No.", stop_reason="refusal", times=9)], {}),
    "wrong-key": ("wrong-key", {}),
    "rate-limited": ("rate-limited", {}),
    "usage-limit": (
        [{"error": {"status": 429, "type": "rate_limit_error", "message": "x", "headers": _LIMIT_REACHED}, "times": 9}],
        {"environment": {"CLAUDE_CODE_OAUTH_TOKEN": "made-up", "ANTHROPIC_API_KEY": ""}},
    ),
    "overloaded": ("overloaded", {}),
    "no-such-model": ([{"error": {"status": 404, "type": "not_found_error", "message": "model"}, "times": 9}], {}),
    "server-error": ([{"error": {"status": 500, "type": "api_error", "message": "Oops"}, "times": 9}], {}),
    "connection-refused": ([], {"environment": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}}),
    "not-logged-in": ([], {"environment": {"ANTHROPIC_BASE_URL": "", "ANTHROPIC_API_KEY": ""}}),
    "cut-off": ([say("This is cut.", drop=True, times=9)], {}),
    "hangs": ("hangs", {"seconds": 1.5}),
}


def record(name: str) -> None:
    """Write streams/NAME.jsonl: a line on how it ended, then what was printed, without a trace of this machine."""
    script, changes = RECORDED[name]
    with tempfile.TemporaryDirectory(prefix="rota-") as folder:
        session = converse(Path(folder), script, **changes)
    ending = session.ending
    head = {"exit_code": ending.exit_code, "signal": ending.signal, "ended_by": ending.ended_by}
    lines = [json.dumps(head)]
    for line in (line for line in session.lines if line.stream == "out"):
        text = line.data.decode()
        text = re.sub(re.escape(str(session.spec.workspace)), "/workspace", text)
        text = re.sub(re.escape(folder), "/session", text)
        text = re.sub(re.escape(folder.replace("/", "-")), "-session", text)
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)
        lines.append(text)
    (STREAMS / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    STREAMS.mkdir(exist_ok=True)
    for name in RECORDED:
        record(name)
        print(name)
