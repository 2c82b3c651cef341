"""Shims that are forked, and what holds when the forker, its worker or both die, at any point of a start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from runners import processes, starting, supervision
from runners.base import DiskFull, Launch, SupervisionError
from runners.starting import Forker, forker
from tests.processes import until
from tests.runners import census
from tests.runners.held import PATH, Held, hold, limits_of

_WORKER = """
import sys, time
from pathlib import Path
from runners import Launch, Limits, start, starting
folder = Path(sys.argv[1])
launch = Launch(argv=["sh", "-c", "sleep 1; echo done"], environment={"PATH": sys.argv[2]})
start(folder, launch, cwd=folder, limits=Limits())
print(starting.forker.pid, flush=True)
sys.stdin.readline()
"""


def stat(pid: int) -> list[str]:
    """The fields after the name: state, parent, group, session, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def descriptors(pid: int) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def is_there(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


def let_go(held: Held) -> None:
    supervision.request_stop(held.folder, "cancelled")
    assert held.end().ended_by == "cancelled"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Held]:
    """A session that runs, whose shim was forked."""
    held = hold(tmp_path, "sleep", "60", name="sleeper")
    assert int(stat(held.shim.pid)[1]) == forker.pid
    yield held
    let_go(held)


@pytest.fixture
def stopped(sleeper: Held) -> Iterator[int]:
    """The forker, which takes requests and does nothing about them."""
    pid = forker.pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stat(pid)[0] == "T", within=15, what="the forker has stopped")
    yield pid
    if is_there(pid):
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Forker]:
    """One of the test's own, which has started and waits for requests."""
    own = Forker()
    told, tell = os.pipe()
    own.ask(tmp_path / "nowhere", tell)
    os.close(tell)
    assert os.read(told, 100) == b""
    os.close(told)
    pid = own.pid
    yield own
    if own.pid:
        own.end()
    else:
        os.waitpid(pid, 0)


def lay_launch(folder: Path, *argv: str) -> None:
    """What `start` lays down before it asks for a shim."""
    folder.mkdir()
    launch = Launch(argv=argv, environment={"PATH": PATH})
    supervision._write(folder / "launch.json", supervision._instructions(launch, folder, limits_of()))


class TestAForkedShim:
    def test_is_the_forkers_child_and_leads_a_session_of_its_own(self, sleeper: Held) -> None:
        state = stat(sleeper.shim.pid)
        assert (int(state[1]), int(state[3])) == (forker.pid, sleeper.shim.pid)
        assert int(stat(forker.pid)[1]) == os.getpid()

    def test_is_told_from_others_in_ps_and_top(self, sleeper: Held) -> None:
        words = processes.command_line(sleeper.shim.pid)
        assert [word for word in words if word] == [
            os.fsencode(word) for word in (sys.executable, "-I", "-S", starting.SHIM, sleeper.folder)
        ]
        assert Path(f"/proc/{sleeper.shim.pid}/comm").read_text() == "shim sleeper\n"
        assert b"forker.py" in b" ".join(processes.command_line(forker.pid))

    def test_has_nothing_of_the_workers_nor_of_other_sessions(self, sleeper: Held, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        with secret.open("w") as file:
            os.set_inheritable(file.fileno(), True)
            other = hold(tmp_path, "sleep", "60", name="other")
            for held in (sleeper, other):
                found = {path for path in descriptors(held.shim.pid) if not path.startswith("pipe:")}
                assert found <= {
                    "/dev/null",
                    *(str(held.folder / name) for name in ("shim.log", "output.log", "ending.json.part")),
                }
                assert Path(f"/proc/{held.shim.pid}/environ").read_bytes() == b""
            let_go(other)
        assert len(descriptors(forker.pid)) == 2, "nothing, and its socket"
        assert Path(f"/proc/{forker.pid}/environ").read_bytes() == b""

    def test_goes_on_when_the_forker_dies(self, sleeper: Held, tmp_path: Path) -> None:
        pid = forker.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_there(pid), within=15, what="the forker is gone")
        assert supervision.ending_or_died(sleeper.folder) is None
        another = hold(tmp_path, "sleep", "60", name="another")
        assert int(stat(another.shim.pid)[1]) == forker.pid != pid
        let_go(another)


class TestAStart:
    def test_is_done_in_another_way_when_the_forker_dies_before_it_forks(self, tmp_path: Path, stopped: int) -> None:
        with ThreadPoolExecutor(1) as pool:
            starts = self.begin(pool, tmp_path)
            os.kill(stopped, signal.SIGKILL)
            held = starts.result(timeout=30)
        assert held.end().exit_code == 0
        assert held.texts() == [b"hello"]

    def test_waits_only_so_long_for_a_forker_that_hangs(
        self, tmp_path: Path, stopped: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forker, "patience", 0.2)
        held = hold(tmp_path, "echo", "hello")
        assert not is_there(stopped)
        assert held.end().exit_code == 0
        assert held.texts() == [b"hello"]

    def test_comes_to_nothing_when_the_session_is_killed_before_its_shim_is_born(
        self, tmp_path: Path, stopped: int
    ) -> None:
        with ThreadPoolExecutor(1) as pool:
            starts = self.begin(pool, tmp_path)
            assert supervision.kill(tmp_path / "session") == 0
            os.kill(stopped, signal.SIGCONT)
            with pytest.raises(SupervisionError, match="no sign of life"):
                starts.result(timeout=30)
        assert not (tmp_path / "session" / "output.log").exists()

    def test_without_a_forker_is_as_ever(self, tmp_path: Path) -> None:
        deep = tmp_path / "/".join(["x" * 200] * 6)  # more than fits into its command line
        deep.mkdir(parents=True)
        held = hold(deep, "sleep", "60")
        assert int(stat(held.shim.pid)[1]) == os.getpid()
        let_go(held)

    def test_that_can_be_done_in_no_way_leaves_nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As where nobody can be forked any more, after the forker was given up and had served all the same."""
        forker.end()
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
        marker = {processes.MARKER: str(tmp_path / "session")}
        with subprocess.Popen(["sleep", "20"], env=marker) as late:
            carried = os.fsencode(f"{processes.MARKER}={tmp_path / 'session'}")
            until(lambda: processes.carries(late.pid, carried), within=15, what="it has its environment")
            with pytest.raises(SupervisionError, match="could not be started"):
                hold(tmp_path, "true")
            assert late.wait(timeout=15) == -signal.SIGKILL
        assert not (tmp_path / "session" / "launch.json").exists()

    @pytest.mark.parametrize("depth", [0, 6])
    def test_on_a_full_disk_says_so_in_either_way(self, tmp_path: Path, depth: int) -> None:
        folder = tmp_path / "/".join(["x" * 200] * depth) / "session"
        folder.mkdir(parents=True)
        (folder / "ending.json.part").symlink_to("/dev/full")
        with pytest.raises(DiskFull):
            hold(folder.parent, "true", environment={"SECRET": "of the schedule"})
        assert not (folder / "launch.json").exists()

    def begin(self, pool: ThreadPoolExecutor, tmp_path: Path) -> Future[Held]:
        """Start a session in a thread, up to where it waits for the shim's word."""
        starts = pool.submit(hold, tmp_path, "echo", "hello")
        until(lambda: (tmp_path / "session" / "launch.json").exists(), within=15, what="it has begun to start")
        return starts


class TestAWorkerThatDies:
    """Closing its end of the socket is all that its death does to the forker."""

    def test_with_a_request_on_its_way_leaves_a_session_that_goes_on(self, tmp_path: Path, mine: Forker) -> None:
        folder, pid = tmp_path / "session", mine.pid
        lay_launch(folder, "echo", "hello")
        told, tell = os.pipe()
        os.kill(pid, signal.SIGSTOP)
        mine.ask(folder, tell)
        mine.forget()
        os.close(tell)
        os.kill(pid, signal.SIGCONT)
        assert os.read(told, 100).split()[0].isdigit()
        os.close(told)
        until(lambda: supervision.ending_or_died(folder), within=15, what="the session ends")
        ending = supervision.ending(folder)
        assert ending is not None
        assert ending.exit_code == 0
        until(lambda: not is_there(pid), within=15, what="the forker has gone with its worker")

    def test_with_a_request_on_its_way_starts_nothing_once_its_session_is_given_up(
        self, tmp_path: Path, mine: Forker
    ) -> None:
        folder, pid = tmp_path / "session", mine.pid
        lay_launch(folder, "touch", str(tmp_path / "begun"))
        told, tell = os.pipe()
        os.kill(pid, signal.SIGSTOP)
        mine.ask(folder, tell)
        mine.forget()
        os.close(tell)
        died = supervision.ending_or_died(folder)
        assert died is not None
        assert died.ended_by == "shim_died"
        os.kill(pid, signal.SIGCONT)
        assert os.read(told, 100) == b"", "the shim was born and has found no work"
        os.close(told)
        until(lambda: not is_there(pid), within=15, what="the forker has gone with its worker")
        assert not (tmp_path / "begun").exists()
        census.assert_gone(str(folder), within=15)

    @pytest.mark.parametrize("how", ["killed", "ends"])
    def test_takes_its_forker_along_and_no_session(self, tmp_path: Path, how: str) -> None:
        folder = tmp_path / "session"
        folder.mkdir()
        command = [sys.executable, "-c", _WORKER, str(folder), PATH]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as worker:
            assert worker.stdout
            assert worker.stdin
            pid = int(worker.stdout.readline())
            assert is_there(pid)
            if how == "killed":
                worker.kill()
        until(lambda: not is_there(pid), within=15, what="the forker is gone")
        until(lambda: supervision.ending_or_died(folder), within=15, what="the session ends")
        ending = supervision.ending(folder)
        assert ending is not None
        assert (ending.exit_code, ending.ended_by) == (0, "")

    def test_is_not_taken_for_a_process_that_was_forked_from_it(self, sleeper: Held) -> None:
        child = os.fork()
        if child == 0:
            forker.end()  # of the parent's it knows nothing
            os._exit(0 if forker.pid == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert is_there(forker.pid)

    def test_takes_no_lock_along_into_a_process_that_is_forked_from_it(self) -> None:
        with subprocess.Popen(["sleep", "60"]) as own:
            starting.children.add(own.pid)
            with starting.children._lock:
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    starting.children.reap()
                    os._exit(0)
            own.kill()
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        starting.children.reap()


def test_a_shim_that_comes_second_finds_the_launch_taken(tmp_path: Path, mine: Forker) -> None:
    folder = tmp_path / "session"
    lay_launch(folder, "sh", "-c", f"echo x >> {tmp_path / 'starts'}")
    ends = [os.pipe() for _ in range(4)]
    for _, tell in ends:
        mine.ask(folder, tell)
        os.close(tell)
    words = [os.read(told, 100) for told, _ in ends]
    for told, _ in ends:
        os.close(told)
    assert sorted(map(bool, words)) == [False, False, False, True]
    until(lambda: supervision.ending_or_died(folder), within=15, what="the session ends")
    assert (tmp_path / "starts").read_text() == "x\n"
    until(lambda: not census.carrying(str(folder)), within=15, what="the shims leave")


def test_where_forkers_come_to_nothing_no_more_are_started(tmp_path: Path) -> None:
    own = Forker()
    told, tell = os.pipe()
    for _ in range(starting.ENOUGH):
        own.ask(tmp_path / "nowhere", tell)
        own.end()
    with pytest.raises(OSError, match="Nothing can be forked"):
        own.ask(tmp_path / "nowhere", tell)
    own.has_served()
    own.ask(tmp_path / "nowhere", tell)
    own.end()
    os.close(tell)
    assert os.read(told, 100) == b""
    os.close(told)
