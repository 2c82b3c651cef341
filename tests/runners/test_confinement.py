"""What a session may take of its machine: real trees of processes, and cgroups as files where no kernel makes them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runners import confinement, processes, supervision, verdict
from runners.base import Tally
from runners.confinement import MEGABYTE, Confinement
from tests.processes import until
from tests.runners.held import hold, hold_python

# Three processes that share what the first has filled.
SHARE = (
    "import os, signal; filled = bytearray(os.urandom(1)) * (60 << 20);"
    "[os.fork() or signal.pause() for _ in range(2)]; print('ready', flush=True); signal.pause()"
)


THREADS = (
    "import threading, time\n"
    "for _ in range(7): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    "print('ready', flush=True); time.sleep(60)"
)


@contextmanager
def started(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Some lines of Python that have said `ready`; killed with all their children in the end."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            for each in processes.tree([process.pid]):
                processes.send(each, signal.SIGKILL)


def limits(**given: Any) -> dict[str, Any]:
    return {"memory_bytes": None, "tasks": None, "nice": 0, "cgroup": "", **given}


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A folder that looks like a delegated cgroup to who writes to it. A kernel would make the files of a child."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    return folder


def child_of(parent: Path, folder: Path) -> Path:
    """The session's cgroup, with its files as a kernel makes them."""
    child = parent / confinement.cgroup_name(str(folder))
    child.mkdir()
    for name in ("cgroup.procs", "cgroup.kill", "memory.max", "memory.swap.max", "pids.max", "memory.events"):
        (child / name).touch()
    return child


class TestWithoutACgroup:
    def test_a_tree_that_takes_too_much_memory_is_ended(self, tmp_path: Path) -> None:
        take = "import time; print('go'); taken = bytearray(b'x') * (300 << 20); print('taken'); time.sleep(60)"
        held = hold(tmp_path, "sh", "-c", f'"$0" -c "{take}"; echo survived', sys.executable, memory_bytes=200 << 20)
        ending = held.end()
        assert ending.ended_by == "out_of_memory"
        assert "the limit is 200 MB" in ending.message
        assert b"survived" not in held.texts()
        assert verdict.judge(ending, Tally(), {}).reason == "out_of_memory"

    def test_a_tree_of_too_many_processes_is_ended(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait", tasks=5)
        ending = held.end()
        assert ending.ended_by == "too_many_processes"
        assert ending.message.endswith("the limit is 5.")

    def test_threads_count_as_processes_do(self) -> None:
        held = Confinement("/session", limits(tasks=7))
        with started(THREADS) as process:
            found = held.breach(0.0, lambda: processes.tree([process.pid]))
        assert found == ("too_many_processes", "They were 8 with their threads; the limit is 7.")

    def test_memory_that_processes_share_counts_once(self) -> None:
        with started(SHARE) as process:
            tree = processes.tree([process.pid])
            within = Confinement("/session", limits(memory_bytes=130 * MEGABYTE)).breach(0.0, lambda: tree)
            beyond = Confinement("/session", limits(memory_bytes=40 * MEGABYTE)).breach(0.0, lambda: tree)
        assert len(tree) == 3
        assert within == ("", "")
        assert beyond[0] == "out_of_memory"

    def test_a_tree_within_its_limits_is_looked_at_now_and_then(self) -> None:
        held = Confinement("/session", limits(tasks=100, memory_bytes=1 << 40))
        assert held.next_look() == 0.0
        assert held.breach(10.0, lambda: processes.tree([os.getpid()])) == ("", "")
        assert held.next_look() == 10.0 + confinement.LOOK

    def test_without_limits_nobody_looks(self) -> None:
        assert Confinement("/session", limits(cgroup="/nowhere")).next_look() is None

    def test_what_ended_meanwhile_takes_nothing(self) -> None:
        gone = (2**22, 1)
        assert Confinement("/s", limits(tasks=1, memory_bytes=1)).breach(0.0, lambda: [gone]) == ("", "")


class TestEverySession:
    def test_stands_behind_others_and_is_the_first_to_go(self, tmp_path: Path) -> None:
        show = "import os; print(os.nice(0)); print(open('/proc/self/oom_score_adj').read().strip())"
        held = hold_python(tmp_path, show, nice=7)
        held.end()
        assert held.texts() == [str(os.nice(0) + 7).encode(), b"500"]

    def test_leaves_no_core(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "ulimit -c")
        held.end()
        assert held.texts() == [b"0"]


class TestInACgroup:
    def test_its_limits_are_the_kernels_to_hold(self, parent: Path, tmp_path: Path) -> None:
        (parent / "cgroup.subtree_control").touch()
        cgroup = child_of(parent, tmp_path)
        held = Confinement(str(tmp_path), limits(memory_bytes=5000, tasks=20, cgroup=str(parent)))
        assert (held.cgroup, held.fault, held.next_look()) == (str(cgroup), "", None)
        assert (parent / "cgroup.subtree_control").read_text() == "+memory +pids"
        assert (cgroup / "memory.max").read_text() == "5000"
        assert (cgroup / "memory.swap.max").read_text() == "0"
        assert (cgroup / "pids.max").read_text() == "20"

    def test_the_program_enters_it_before_it_begins(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path / "session")
        held = hold(tmp_path, "sh", "-c", "true", tasks=50, cgroup=str(parent))
        held.end()
        assert (cgroup / "cgroup.procs").read_text() == "0"

    def test_who_was_killed_there_for_want_of_memory_ran_out_of_it(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path / "session")
        (cgroup / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
        ending = hold(tmp_path, "sh", "-c", "kill -KILL $$", memory_bytes=2**20, cgroup=str(parent)).end()
        assert (ending.ended_by, ending.signal) == ("out_of_memory", signal.SIGKILL)
        assert ending.message == "The kernel ended 1 of its processes: the limit is 1 MB."

    def test_who_lost_but_a_tool_goes_on(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path / "session")
        (cgroup / "memory.events").write_text("oom_kill 2\n")
        held = hold(tmp_path, "sh", "-c", "echo fine", memory_bytes=2**20, cgroup=str(parent))
        assert (held.end().ended_by, held.texts()) == ("", [b"fine"])
        assert held.texts("shim") == [b"memory: The kernel ended 2 of its processes: the limit is 1 MB."]

    def test_where_none_can_be_made_the_shim_looks_by_itself_and_says_so(self, tmp_path: Path) -> None:
        nowhere = tmp_path / "nowhere"
        held = hold(
            tmp_path, "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 60 & done; wait", tasks=3, cgroup=str(nowhere)
        )
        assert held.end().ended_by == "too_many_processes"
        assert (
            held.texts("shim")[0] == f"memory: No cgroup can be made in {nowhere}: No such file or directory.".encode()
        )

    def test_half_a_cgroup_is_not_left_behind(self, parent: Path, tmp_path: Path) -> None:
        held = Confinement(str(tmp_path), limits(tasks=3, cgroup=str(parent)))  # no kernel makes its files
        assert held.cgroup == ""
        assert list(parent.iterdir()) == []

    def test_one_that_can_not_be_entered_starts_no_program(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path / "session")
        (cgroup / "cgroup.procs").unlink()
        ending = hold(tmp_path, "true", tasks=50, cgroup=str(parent)).end()
        assert "can't be entered: No such file or directory" in ending.message

    def test_a_dead_shims_is_emptied_and_only_that(self, parent: Path, tmp_path: Path) -> None:
        cgroup, other = child_of(parent, tmp_path), parent / "somebody-else"
        other.mkdir()
        (other / "cgroup.kill").touch()
        for each in (cgroup, other):
            confinement.clear_cgroup(str(each), str(tmp_path))
        assert (cgroup / "cgroup.kill").read_text() == "1"
        assert (other / "cgroup.kill").read_text() == ""

    def test_where_the_kernel_kills_no_cgroup_each_of_its_processes_is_killed(
        self, parent: Path, tmp_path: Path
    ) -> None:
        cgroup = child_of(parent, tmp_path)
        (cgroup / "cgroup.kill").unlink()
        (cgroup / "of-a-tool").mkdir()
        with started("import time; print('ready', flush=True); time.sleep(60)") as process:
            (cgroup / "of-a-tool/cgroup.procs").write_text(f"{process.pid}\n")
            confinement.clear_cgroup(str(cgroup), str(tmp_path))
            assert process.wait(15) == -signal.SIGKILL

    def test_it_goes_with_those_that_the_session_made_below_it(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path)
        held = Confinement(str(tmp_path), limits(tasks=20, cgroup=str(parent)))
        for file in cgroup.iterdir():
            file.unlink()  # a kernel's go with the folder
        (cgroup / "of-a-tool/of-another").mkdir(parents=True)
        held.leave()
        assert not cgroup.exists()

    def test_only_what_is_limited_is_asked_for(self, parent: Path, tmp_path: Path) -> None:
        (parent / "cgroup.subtree_control").touch()
        child_of(parent, tmp_path)
        Confinement(str(tmp_path), limits(tasks=20, cgroup=str(parent)))
        assert (parent / "cgroup.subtree_control").read_text() == "+pids"

    def test_killing_a_session_whose_shim_died_empties_it(self, parent: Path, tmp_path: Path) -> None:
        cgroup = child_of(parent, tmp_path / "session")
        held = hold(tmp_path, "sh", "-c", "echo up; sleep 60", tasks=50, cgroup=str(parent))
        until(held.texts, within=5, what="it is up")
        os.kill(held.shim.pid, signal.SIGKILL)
        until(lambda: not supervision.is_alive(held.shim), within=5, what="the shim is gone")
        supervision.kill(held.folder)
        assert (cgroup / "cgroup.kill").read_text() == "1"
