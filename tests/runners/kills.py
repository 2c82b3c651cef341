"""One session with a large family, one SIGKILL at a random moment, and who is left when the next worker has looked."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runners import ending_or_died, kill, request_stop
from tests.processes import until
from tests.runners import census

SECONDS: Final = 20.0  # from the kill until nobody may be left
VICTIMS: Final = ("worker", "shim", "agent", "worker and shim", "anyone")
AT_ONCE: Final = 4
GROWN: Final = 13  # processes of a session whose family is whole, its worker and its shim among them
ROOT: Final = Path(__file__).parents[2]

# Three generations and more: a child, who has one that heeds no TERM and one in a session of its own; an orphan.
_FAMILY = """
case $1 in
  program) sh "$0" child & (sh "$0" deaf &); echo up; wait ;;
  child) sh "$0" deaf & setsid sh "$0" deaf & sh "$0" parent & wait ;;
  parent) sleep 600 & setsid sleep 600 & wait ;;
  deaf) trap '' TERM HUP; while :; do sleep 600; done ;;
esac
"""

# As `schedules.execution` does it: start, follow, and kill what a shim that died has left.
_WORKER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from runners import Limits, RunnerError, Sandbox, SessionSpec, ending_or_died, kill, load_runner, start, wrap_in_sandbox

place = Path(sys.argv[1])
session, workspace = place / "session", place / "workspace"
options = {"argv": ["sh", str(workspace / "family"), "program"]}
spec = SessionSpec(agent_session_id="", folder=session, home=session / "home", workspace=workspace, options=options)
launch = load_runner("runners.script.ScriptRunner").launch(spec)
if sys.argv[2] == "in a sandbox":
    launch = wrap_in_sandbox(launch, spec=spec, sandbox=Sandbox(network="none"))
print("starts", flush=True)
seconds = dict(timeout=timedelta(seconds=60), kill_grace=timedelta(seconds=1))
try:
    start(session, launch, cwd=workspace, limits=Limits(silence=None, **seconds))
except RunnerError as error:
    sys.exit(f"{error.reason}: {error}")
while not (ending := ending_or_died(session)):
    time.sleep(0.02)
if ending.ended_by == "shim_died":
    kill(session)
"""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What is to be done: whom to kill, and when: so many seconds after the worker begins to start the session, or
    after all of its family are there."""

    number: int
    victim: str
    is_grown: bool
    after: float
    is_sandboxed: bool

    @property
    def name(self) -> str:
        return f"kill-{os.getpid()}-{self.number}-"


def chosen(count: int, *, seed: int, sandboxes: bool) -> list[Kill]:
    """Each victim as often as another, every second time in a sandbox where there can be one, and every second time
    while the session only begins."""
    dice = random.Random(seed)
    return [
        Kill(
            number=number,
            victim=VICTIMS[number % len(VICTIMS)],
            is_grown=number % 2 == 1,
            after=dice.uniform(0, 0.25),
            is_sandboxed=sandboxes and number // len(VICTIMS) % 2 == 1,
        )
        for number in range(count)
    ]


def left_by(kills: Iterable[Kill], folder: Path) -> list[str]:
    """Do them, some at a time; a sentence for each that left somebody behind."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [told for told in pool.map(lambda one: _left_by(one, folder), kills) if told]


def _left_by(one: Kill, folder: Path) -> str:
    place = folder / one.name
    session, workspace = place / "session", place / "workspace"
    session.mkdir(mode=0o700, parents=True)
    workspace.mkdir()
    (workspace / "family").write_text(_FAMILY)
    how = "in a sandbox" if one.is_sandboxed else "as it is"
    command = [sys.executable, "-c", _WORKER, str(place), how]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"starts\n", worker.communicate()
        if one.is_grown:
            until(lambda: len(census.carrying(one.name)) >= GROWN, within=30, what=f"{one}: all are there")
        time.sleep(one.after)
        _strike(one, worker.pid)
        killed_at = time.monotonic()
        _look_after(session)
        left = _left(one.name, deadline=killed_at + SECONDS)
        if left:
            worker.kill()
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{one}: {left}" if left else ""


def _strike(one: Kill, worker: int) -> None:
    """Kill the victim; one that is not there yet, as soon as it is; one that is over already is spared."""
    found: dict[str, Callable[[], list[int]]] = {
        "worker": lambda: [worker],
        "shim": lambda: _shims(one),
        "agent": lambda: _children(_shims(one)),
        "worker and shim": lambda: [worker, *shims] if (shims := _shims(one)) else [],
        "anyone": lambda: random.sample(sorted(_family(one, worker)), 1) if _family(one, worker) else [],
    }
    pids: list[int] = []
    deadline = time.monotonic() + 15
    while not (pids := found[one.victim]()) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert pids, f"{one}: there was nobody to be killed"
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _shims(one: Kill) -> list[int]:
    return [pid for pid, command in census.carrying(one.name).items() if "runners/shim.py" in command]


def _children(pids: Iterable[int]) -> list[int]:
    found: list[int] = []
    for pid in pids:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def _family(one: Kill, worker: int) -> set[int]:
    return census.carrying(one.name).keys() - {worker}


def _look_after(session: Path) -> None:
    """As the next worker of the machine does, who knows nothing but the folder: the session of a worker that is gone
    goes on under its shim (here it is cancelled), and what a shim that is gone has left is found and killed."""
    if ending_or_died(session) is None:
        request_stop(session, "cancelled")
        until(lambda: ending_or_died(session), within=SECONDS, what="a session that is cancelled ends")
    ending = ending_or_died(session)
    if ending and ending.ended_by == "shim_died":
        kill(session)


def _left(name: str, *, deadline: float) -> dict[int, str]:
    while (left := census.carrying(name)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
