"""Real sessions of small programs under the real shim, for tests."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from runners import following, supervision, tallying
from runners.base import Ending, Launch, Limits, Line, ProcessIdentity, Runner, SessionResult, SessionSpec, Tally
from tests.processes import until

PATH = "/usr/local/bin:/usr/bin:/bin"
COUNTS = ("turns", "memory_bytes", "tasks", "nice", "cgroup")  # limits that are no seconds


@dataclass(kw_only=True)
class Held:
    """One session, followed as a worker would."""

    folder: Path
    shim: ProcessIdentity
    lines: list[Line] = field(default_factory=list)
    offset: int = 0

    def read(self) -> list[Line]:
        """All lines up to now."""
        while True:
            lines, self.offset = following.read_lines(self.folder, self.offset)
            if not lines:
                return self.lines
            self.lines += lines

    def texts(self, stream: str = "out") -> list[bytes]:
        return [line.data for line in self.read() if line.stream == stream]

    def end(self, *, within: float = 15) -> Ending:
        """Wait for the ending, and see that nobody of the session is left."""
        until(lambda: supervision.ending_or_died(self.folder), within=within, what="the session ends")
        until(lambda: not supervision.is_alive(self.shim), within=5, what="the shim leaves")
        assert supervision.current(self.folder) == []
        ending = supervision.ending(self.folder)
        assert ending is not None, "the shim left no ending"
        return ending


def hold(
    tmp_path: Path,
    *argv: str,
    name: str = "session",
    environment: Mapping[str, str] | None = None,
    launch: Mapping[str, Any] | None = None,
    **limits: Any,
) -> Held:
    """Start a program. `limits` in seconds, bytes and numbers; all are short, for tests."""
    folder = tmp_path / name
    folder.mkdir(mode=0o700, exist_ok=True)
    given = {"PATH": PATH, "HOME": str(folder / "home"), **(environment or {})}
    what = Launch(argv=argv, environment=given, **(launch or {}))
    shim = supervision.start(folder, what, cwd=tmp_path, limits=limits_of(**limits))
    return Held(folder=folder, shim=shim)


def limits_of(**limits: Any) -> Limits:
    seconds: dict[str, float | None] = {"timeout": 20, "silence": None, "result_grace": 5, "kill_grace": 5}
    output_bytes = limits.pop("output_bytes", None)
    counts: dict[str, Any] = {name: limits.pop(name) for name in COUNTS if name in limits}
    spans: dict[str, Any] = {
        name: None if value is None else timedelta(seconds=value) for name, value in {**seconds, **limits}.items()
    }
    if output_bytes is not None:
        counts["output_bytes"] = int(output_bytes)
    return Limits(**spans, **counts)


def hold_python(tmp_path: Path, program: str, **more: Any) -> Held:
    """Start a few lines of Python. Each print is flushed."""
    return hold(tmp_path, sys.executable, "-I", "-S", "-u", "-c", program, **more)


def make_spec(folder: Path, *, options: Mapping[str, Any], **changes: Any) -> SessionSpec:
    """A spec in `folder`, with an empty workspace where there is none."""
    given = {
        "agent_session_id": "00000000-0000-4000-8000-000000000000",
        "folder": folder / "session",
        "home": folder / "session" / "home",
        "workspace": folder / "workspace",
        "options": options,
    }
    spec = SessionSpec(**{**given, **changes})
    spec.folder.mkdir(mode=0o700, exist_ok=True)
    spec.workspace.mkdir(exist_ok=True)
    return spec


def see_through(runner: Runner, spec: SessionSpec, **limits: float | None) -> tuple[SessionResult, Sequence[Line]]:
    """Run a session from its launch to its verdict."""
    launch = runner.launch(spec)
    shim = supervision.start(spec.folder, launch, cwd=spec.workspace, limits=limits_of(**limits))
    held = Held(folder=spec.folder, shim=shim)
    ending = held.end()
    tally = Tally()
    for line in held.read():
        for event in runner.read(line):
            tallying.add(tally, event)
    return runner.judge(ending, tally, spec), held.lines
