"""Starting, following, finding again and killing sessions, as workers come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runners import following, processes, recording, supervision
from runners.base import DiskFull, Launch, ProcessIdentity, SupervisionError
from tests.processes import until
from tests.runners.held import PATH, hold, limits_of

_WORKER = """
import json, sys, time
from pathlib import Path
from runners import following, supervision
from runners.base import Launch, Limits
folder, count = Path(sys.argv[1]), int(sys.argv[2])
program = 'for i in range(400): print(i); time.sleep(0.003)'
launch = Launch(argv=[sys.executable, '-I', '-S', '-u', '-c', 'import time\\n' + program], environment={})
supervision.start(folder, launch, cwd=folder, limits=Limits())
lines, offset = [], 0
while len(lines) < count:
    more, offset = following.read_lines(folder, offset)
    lines += [int(line.data) for line in more]
    time.sleep(0.01)
print(json.dumps({'lines': lines, 'offset': offset}), flush=True)
time.sleep(60)
"""


class TestStart:
    def test_gives_the_identity_of_the_shim_which_the_folder_gives_too(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        assert supervision.identity(held.folder) == held.shim
        assert supervision.identify(held.shim.pid) == held.shim
        assert supervision.is_alive(held.shim)
        assert len(supervision.current(held.folder)) == 2
        supervision.request_stop(held.folder, "cancelled")
        held.end()

    def test_lays_the_files_of_the_launch_below_home_where_only_we_can_read_them(self, tmp_path: Path) -> None:
        files = {"a.json": b"{}", "deep/er/b": b"\x00"}
        environment = {"TMPDIR": str(tmp_path / "session" / "home" / "tmp")}
        held = hold(tmp_path, "find", ".", launch={"files": files}, environment=environment)
        held.end()
        home = held.folder / "home"
        assert (home / "a.json").read_bytes() == b"{}"
        assert (home / "deep/er/b").read_bytes() == b"\x00"
        assert (home / "deep/er/b").stat().st_mode & 0o777 == 0o600
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "tmp").is_dir()

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
    def test_refuses_files_outside_of_home(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SupervisionError, match="outside of HOME"):
            hold(tmp_path, "true", launch={"files": {name: b""}})

    def test_refuses_a_working_directory_outside_of_the_workspace(self, tmp_path: Path) -> None:
        (tmp_path / "way-out").symlink_to("/")
        with pytest.raises(SupervisionError, match="outside of the workspace"):
            hold(tmp_path, "true", launch={"working_directory": "way-out"})

    def test_starts_below_the_workspace_where_it_is_told_to(self, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        held = hold(tmp_path, "pwd", launch={"working_directory": "docs"})
        held.end()
        assert held.texts() == [os.fsencode(tmp_path / "docs")]

    def test_refuses_a_folder_that_held_a_session(self, tmp_path: Path) -> None:
        hold(tmp_path, "true").end()
        with pytest.raises(SupervisionError, match="already held a session"):
            hold(tmp_path, "true")

    def test_tells_what_is_wrong_when_the_folder_is_missing(self, tmp_path: Path) -> None:
        launch = Launch(argv=["true"], environment={})
        with pytest.raises(SupervisionError, match="No such file or directory"):
            supervision.start(tmp_path / "missing", launch, cwd=tmp_path, limits=limits_of())

    def test_tells_a_full_disk_from_other_faults(self, tmp_path: Path) -> None:
        (tmp_path / "session").mkdir()
        (tmp_path / "session" / "ending.json.part").symlink_to("/dev/full")
        with pytest.raises(DiskFull):
            hold(tmp_path, "true", environment={"SECRET": "of the schedule"})
        assert not (tmp_path / "session" / "launch.json").exists()

    def test_leaves_neither_zombies_nor_descriptors_in_fifty_sessions_by_threads(self, tmp_path: Path) -> None:
        def live(number: int) -> int | None:
            return hold(tmp_path, "echo", str(number), name=str(number)).end().exit_code

        before = len(list(Path("/proc/self/fd").iterdir()))
        with ThreadPoolExecutor(5) as pool:
            assert set(pool.map(live, range(50))) == {0}
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        zombies = [pid for pid in children if processes.start_ticks(int(pid)) is None]
        assert zombies == []


class TestAnotherWorker:
    def test_goes_on_where_one_was_killed_with_nothing_lost_and_nothing_twice(self, tmp_path: Path) -> None:
        folder = tmp_path / "session"
        folder.mkdir()
        command = [sys.executable, "-c", _WORKER, str(folder), "60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as worker:
            assert worker.stdout
            told = json.loads(worker.stdout.readline())
            worker.kill()
        lines, offset = told["lines"], told["offset"]
        assert supervision.ending_or_died(folder) is None
        while True:
            ending = supervision.ending_or_died(folder)
            more, offset = following.read_lines(folder, offset)
            lines += [int(line.data) for line in more]
            if ending and not more:
                break
        assert lines == list(range(400))
        assert ending.exit_code == 0
        shim = supervision.identity(folder)
        assert shim is not None
        until(lambda: not supervision.is_alive(shim), within=5, what="the shim leaves")


class TestAShimThatDied:
    def test_takes_its_program_along_and_the_rest_is_killed(self, tmp_path: Path) -> None:
        family = "(trap '' TERM; setsid sleep 60 &) ; sleep 60 & echo up; exec sleep 60"
        held = hold(tmp_path, "sh", "-c", family)
        until(held.texts, within=5, what="it is up")
        before = supervision.current(held.folder)
        assert len(before) == 4
        os.kill(held.shim.pid, signal.SIGKILL)
        until(lambda: not supervision.is_alive(held.shim), within=5, what="the shim is gone")
        ending = supervision.ending_or_died(held.folder)
        assert ending is not None
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, None, "shim_died")
        assert ending.started_at_ms <= ending.ended_at_ms
        assert ending.output_bytes > 0
        assert supervision.kill(held.folder) >= 2
        assert [process for process in before if supervision.is_alive(process)] == []
        assert supervision.kill(held.folder) == 0

    def test_need_not_be_dead_for_its_session_to_be_killed(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        assert supervision.kill(held.folder) >= 1
        assert supervision.current(held.folder) == []
        died = supervision.ending_or_died(held.folder)
        assert died is not None
        assert died.ended_by == "shim_died"

    def test_before_its_first_word_is_found_by_its_command_line(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        (held.folder / "process.json").unlink()
        assert supervision.ending_or_died(held.folder) is None
        assert supervision.identity(held.folder) is None
        supervision.kill(held.folder)
        assert not supervision.is_alive(held.shim)


class TestKill:
    @pytest.fixture
    def innocent(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"])

    @pytest.mark.parametrize("change", [{"ticks": 1}, {"boot_id": "of-yesterday"}])
    def test_never_touches_a_pid_that_was_reused(
        self, tmp_path: Path, innocent: subprocess.Popen[bytes], change: dict[str, object]
    ) -> None:
        real = supervision.identify(innocent.pid)
        process = {"pid": real.pid, "start_ticks": real.start_ticks + int(str(change.get("ticks", 0)))}
        record = {"shim": process, "program": process, "boot_id": change.get("boot_id", real.boot_id)}
        (tmp_path / "process.json").write_text(json.dumps(record))
        assert supervision.kill(tmp_path) == 0
        died = supervision.ending_or_died(tmp_path)
        assert died is not None
        assert died.ended_by == "shim_died"
        supervision.request_stop(tmp_path, "cancelled")
        assert innocent.poll() is None
        innocent.kill()
        innocent.wait()

    def test_finds_nobody_after_an_ending(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "true")
        held.end()
        assert supervision.kill(held.folder) == 0

    def test_works_although_the_record_is_damaged(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        (held.folder / "process.json").write_text("{}")
        (held.folder / "ending.json").write_text("not JSON")
        assert supervision.kill(held.folder) >= 1
        assert not supervision.is_alive(held.shim)


class TestIdentities:
    def test_a_zombie_is_not_alive(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        me = supervision.identify(child.pid)
        assert supervision.is_alive(me)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not supervision.is_alive(me)
        child.wait()

    def test_a_process_that_is_gone_has_none(self) -> None:
        child = subprocess.Popen(["true"])
        child.wait()
        with pytest.raises(SupervisionError, match="no process"):
            supervision.identify(child.pid)

    def test_of_another_boot_are_not_alive(self) -> None:
        me = supervision.identify(os.getpid())
        other = ProcessIdentity(pid=me.pid, start_ticks=me.start_ticks, boot_id="of-yesterday")
        assert supervision.is_alive(me)
        assert not supervision.is_alive(other)


class TestEnding:
    def test_is_none_while_the_session_goes_on(self, tmp_path: Path) -> None:
        assert supervision.ending(tmp_path) is None

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"exit_code": 0}'])
    def test_that_is_damaged_is_an_error(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "ending.json").write_text(content)
        with pytest.raises(SupervisionError, match="damaged"):
            supervision.ending(tmp_path)

    def test_of_a_session_that_never_began_is_that_its_shim_died(self, tmp_path: Path) -> None:
        died = supervision.ending_or_died(tmp_path)
        assert died is not None
        assert (died.ended_by, died.message) == ("shim_died", "Its shim died.")
        assert died.ended_at_ms <= recording.now_ms()


def test_a_name_that_is_no_ascii_does_no_harm(tmp_path: Path) -> None:
    held = hold(tmp_path, "printf", "%s", "grüße", name="séance 1", environment={"PATH": PATH})
    assert held.end().exit_code == 0
    assert held.texts() == ["grüße".encode()]


class TestAwaitEnd:
    def test_returns_when_the_shim_ends(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "0.3")
        began = time.monotonic()
        supervision.await_end(held.folder, 60)
        assert time.monotonic() - began < 30
        assert supervision.ending_or_died(held.folder)
        supervision.await_end(held.folder, 60)  # at once

    def test_returns_when_the_time_is_over(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        supervision.await_end(held.folder, 0.05)
        assert supervision.ending_or_died(held.folder) is None
        supervision.request_stop(held.folder, "cancelled")
        held.end()

    def test_waits_where_no_shim_is_known(self, tmp_path: Path) -> None:
        began = time.monotonic()
        supervision.await_end(tmp_path, 0.05)
        assert time.monotonic() - began >= 0.05
