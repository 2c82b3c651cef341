"""Who belongs to a session, and signals that hit no stranger."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners import processes
from tests.processes import until

# Has a name with brackets and spaces, as anybody may give himself one.
_RENAMED = "import sys, time; open('/proc/self/comm', 'w').write('a) S (1 2'); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={processes.MARKER: "/sessions/1", "OTHER": "x"}) as process:
        until(lambda: _carries(process.pid), within=5, what="it has become sleep")
        yield process
        process.kill()


def _carries(pid: int) -> bool:
    return b"/sessions/1" in Path(f"/proc/{pid}/environ").read_bytes()


def started(process: subprocess.Popen[bytes]) -> int:
    ticks = processes.start_ticks(process.pid)
    assert ticks is not None
    return ticks


def test_a_name_with_brackets_does_not_confuse() -> None:
    with subprocess.Popen([sys.executable, "-c", _RENAMED], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert started(process) > started_of(os.getpid())
        assert (process.pid, started(process)) in processes.tree([os.getpid()])
        process.kill()


def started_of(pid: int) -> int:
    ticks = processes.start_ticks(pid)
    assert ticks is not None
    return ticks


def test_the_marker_is_found_whole_and_nothing_like_it(sleeper: subprocess.Popen[bytes]) -> None:
    mine = (sleeper.pid, started(sleeper))
    assert processes.tree([], marker="/sessions/1") == [mine]
    assert processes.tree([], marker="/sessions/") == []
    assert processes.tree([], marker="/sessions/11") == []
    assert processes.tree([], marker="") == []


def test_a_tree_has_all_generations_and_leaves_out_whom_it_is_told_to() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'sleep 60; true'; true"], start_new_session=True) as process:
        until(lambda: len(processes.tree([process.pid])) == 3, within=5, what="three generations")
        assert next(pid for pid, _ in processes.tree([process.pid])) == process.pid
        assert len(processes.tree([process.pid], but=[process.pid])) == 2
        for each in processes.tree([process.pid]):
            assert processes.send(each, signal.SIGKILL)


def test_who_is_gone_has_no_tree() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert processes.tree([process.pid]) == []
    assert processes.start_ticks(process.pid) is None


def test_a_signal_hits_the_one_that_is_meant(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.send((sleeper.pid, started(sleeper)), signal.SIGTERM)
    assert sleeper.wait(timeout=5) == -signal.SIGTERM


def test_a_signal_does_not_hit_who_has_the_pid_now(sleeper: subprocess.Popen[bytes]) -> None:
    assert not processes.send((sleeper.pid, started(sleeper) - 1), signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_signal_to_nobody_is_told() -> None:
    assert not processes.send((2**22 + 1, 1), signal.SIGKILL)


def test_forks_are_counted() -> None:
    before = processes.forks()
    subprocess.run(["true"], check=True)
    after = processes.forks()
    assert before is not None
    assert after is not None
    assert after > before


def test_pids_are_given_out_in_a_circle() -> None:
    now = processes.forks()
    assert now is not None
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert processes.are_later_ones_higher(1, now)
    assert not processes.are_later_ones_higher(most, now)
    assert not processes.are_later_ones_higher(1, now - most), "the circle may have been closed since"
    assert not processes.are_later_ones_higher(1, None)


def test_a_tree_above_a_pid_has_none_below() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60; true"]) as process:
        until(lambda: len(processes.tree([process.pid])) == 2, within=5, what="its child is there")
        assert len(processes.tree([process.pid], above=process.pid)) == 1
        for each in processes.tree([process.pid]):
            assert processes.send(each, signal.SIGKILL)
