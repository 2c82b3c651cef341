"""What has to hold where a session says that it did well: commands of its schedule's, run in its checkout.

    FOLDER/checks/1, /2, …    a folder each, as a session has one: a shim holds the command, and its limits

A command is a line of `sh`. It has the session's environment and HOME, but not the keys to the agent's model. One that
was started is followed by whoever takes the session over: it does not run twice.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from runners import plain_lines, supervision
from runners.base import Ending, Event, Launch, Line, SessionSpec
from runners.environment import session_environment
from runners.verdict import Finding

CHECKS: Final = "checks"
_LONGEST_SHOWN: Final = 200  # characters of a command, and of what it said last


def check_folder(folder: Path, number: int) -> Path:
    """Where a session's check is held; made where it is not there."""
    found = folder / CHECKS / str(number)
    found.mkdir(parents=True, mode=0o700, exist_ok=True)
    return found


def is_begun(folder: Path) -> bool:
    """Whether the check of this folder was started, by whomever."""
    return any((folder / name).exists() for name in ("process.json", "ending.json"))


def check_launch(spec: SessionSpec, command: str, *, without: Collection[str]) -> Launch:
    """How a check is started. `without` are the credentials of the session's runner."""
    extra = {name: value for name, value in spec.environment.items() if name not in without}
    environment = session_environment(home=spec.home, extra=extra, path=spec.path)
    return Launch(argv=["sh", "-c", command], environment=environment)


def read_check(line: Line) -> list[Event]:
    return [plain_lines.read(line)]


def check_finding(ending: Ending, command: str, *, last: str) -> Finding | None:
    """What a check that is over makes of a session that did well. None: it holds. `last` is what it said last."""
    if ending.ended_by in ("cancelled", "shutdown"):
        return "cancelled", ending.ended_by, f"It was ended while its check {_shown(command)} ran."
    if ending.ended_by == "" and ending.exit_code == 0:
        return None
    how = f"exit code {ending.exit_code}"
    if ending.signal:
        how = f"killed by {signal.Signals(ending.signal).name}"
    if ending.ended_by:
        how = ending.ended_by.replace("_", " ")
    message = f"It reported success, but its check {_shown(command)} failed ({how}). {_clipped(last)}"
    return "failed", "check_failed", message.strip()


def end_checks(folder: Path) -> int:
    """KILL what is left of a session's checks; how many processes there were."""
    return sum(supervision.kill(check) for check in _checks(folder))


def _checks(folder: Path) -> Iterator[Path]:
    if (folder / CHECKS).is_dir():
        yield from (folder / CHECKS).iterdir()


def _shown(command: str) -> str:
    return f"“{_clipped(' '.join(command.split()))}”"


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
