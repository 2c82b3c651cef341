"""Who flees is caught: real chains, of which each link forks the next one and ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners import processes, supervision
from runners.killing import kill_all
from tests.processes import until

# Seconds that a link lives; a file that says how many there were. All of them are over in half a minute.
_CHAIN = """
import os, sys, time
pause, said, over = float(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT), time.monotonic() + 30
links = 0
while time.monotonic() < over:
    if os.fork():
        os._exit(0)
    links += 1
    os.pwrite(said, b"%d" % links, 0)
    time.sleep(pause)
"""


def begin_chain(folder: Path, pause: float) -> Path:
    """Its file, once it is on its way."""
    said = folder / "links"
    chain = [sys.executable, "-I", "-S", "-c", _CHAIN, str(pause), str(said)]
    subprocess.run(chain, env={processes.MARKER: str(folder)}, check=True, timeout=60)
    until(lambda: said.exists() and int(said.read_text() or 0) > 3, within=30, what="some links have been")
    return said


@pytest.mark.parametrize("pause", [0.0, 0.002, 0.05])
def test_a_chain_that_forks_and_ends_does_not_outrun_a_kill(tmp_path: Path, pause: float) -> None:
    said = begin_chain(tmp_path, pause)
    assert supervision.kill(tmp_path) >= 1
    links = said.read_text()
    time.sleep(0.2)
    assert said.read_text() == links, "it goes on"
    assert processes.tree([], marker=str(tmp_path)) == []


def test_descendants_that_hide_are_ended_with_whom_they_descend_from() -> None:
    family = "env -i sleep 60 & env -i sh -c 'env -i setsid sleep 60 & wait' & wait"
    with subprocess.Popen(["sh", "-c", family]) as parent:
        root = (parent.pid, processes.start_ticks(parent.pid) or 0)
        until(lambda: len(processes.tree([parent.pid])) == 4, within=15, what="all are there")
        family_members = processes.tree([parent.pid])
        assert kill_all(lambda _: False, roots=[root], seconds=10) == 4
        assert parent.wait(timeout=15) == -signal.SIGKILL
    assert [one for one in family_members if processes.start_ticks(one[0]) == one[1]] == []


def test_whoever_was_stopped_is_ended_also_when_the_kill_is_interrupted() -> None:
    found: list[int] = []
    with subprocess.Popen(["sleep", "10"]) as marked:

        def interrupted(pid: int) -> bool:
            if found:
                raise KeyboardInterrupt
            found.extend([pid] * (pid == marked.pid))
            return bool(found)

        with pytest.raises(KeyboardInterrupt):
            kill_all(interrupted, roots=[], seconds=10)
        marked.send_signal(signal.SIGCONT)  # where it was only stopped, it ends otherwise
        assert marked.wait(timeout=15) == -signal.SIGKILL


def test_a_stranger_who_has_the_pid_of_a_root_is_spared() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        start = processes.start_ticks(stranger.pid) or 0
        assert kill_all(lambda _: False, roots=[(stranger.pid, start - 1)], seconds=10) == 0
        assert stranger.poll() is None
        stranger.kill()
