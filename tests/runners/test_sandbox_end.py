"""How sessions in sandboxes end: their exit codes, limits, and nobody left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from runners import supervision
from runners.base import Launch
from runners.environment import session_environment
from runners.sandbox import Sandbox
from tests.processes import until
from tests.runners.held import make_spec
from tests.runners.sandboxed import NO_NETWORK, begin, hold, needs_sandbox, said


@needs_sandbox
class TestEnd:
    @pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 137, 143, 255])
    def test_the_exit_code_is_the_program_s(self, tmp_path: Path, code: int) -> None:
        ending = hold(tmp_path, f"exit {code}").end()
        assert (ending.exit_code, ending.signal) == (code, None)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE])
    def test_the_signal_is_the_program_s(self, tmp_path: Path, number: signal.Signals) -> None:
        ending = hold(tmp_path, f"kill -{number} $$").end()
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, number, "")

    def test_a_program_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        spec = make_spec(tmp_path, options={})
        environment = session_environment(home=spec.home, extra={})
        held = begin(spec, Launch(argv=["no-such-program"], environment=environment), NO_NETWORK)
        assert held.end().exit_code == 127
        assert held.texts("err") == [b"no-such-program could not be started in the sandbox: No such file or directory."]

    def test_what_bubblewrap_says_of_its_own_failure_is_told(self, tmp_path: Path) -> None:
        held = hold(
            tmp_path, "true", within=Sandbox(network="allow_list", allowed_hosts=["x"], objects=tmp_path / "no")
        )
        assert held.end().exit_code == 1
        assert held.texts("err")[0].startswith(b"bwrap: ")

    def test_a_program_is_told_to_end_and_has_its_grace(self, tmp_path: Path) -> None:
        program = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        held = hold(tmp_path, program, timeout=0.5)
        ending = held.end(within=4)
        assert (ending.exit_code, ending.ended_by) == (5, "timed_out")
        assert b"bye" in held.texts()

    def test_silence_ends_it(self, tmp_path: Path) -> None:
        ending = hold(tmp_path, "echo once; sleep 60", silence=0.3).end()
        assert (ending.ended_by, ending.signal) == ("stalled", signal.SIGTERM)

    def test_a_cancelled_one_ends(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "echo ready; sleep 60")
        until(lambda: held.texts() == [b"ready"], within=5, what="it runs")
        supervision.request_stop(held.folder, "cancelled")
        assert held.end().ended_by == "cancelled"

    @pytest.mark.parametrize("hides", ["setsid", "env -i setsid", "nohup"])
    def test_nothing_outlives_the_program(self, tmp_path: Path, hides: str) -> None:
        mark = f"{299 + os.getpid() / 1e7:.7f}"
        held = hold(
            tmp_path, f"trap '' TERM; ({hides} sh -c \"trap '' TERM HUP; sleep {mark}\" >/dev/null 2>&1 &) ; echo on"
        )
        held.end()
        assert not running(mark)

    @pytest.mark.parametrize("victim", ["shim", "keeper", "all"])
    def test_nothing_outlives_a_kill(self, tmp_path: Path, victim: str) -> None:
        mark = f"{399 + os.getpid() / 1e7:.7f}"
        held = hold(tmp_path, f"trap '' TERM; setsid sleep {mark} & echo ready; wait", kill_grace=1)
        until(lambda: running(mark), within=5, what="it runs")
        if victim == "all":
            assert supervision.kill(held.folder)
        else:
            keeper = next(one for one in supervision.current(held.folder) if b"sandbox_outside" in cmdline(one.pid))
            os.kill(held.shim.pid if victim == "shim" else keeper.pid, signal.SIGKILL)
        until(lambda: not running(mark), within=5, what="it is gone")
        until(lambda: supervision.ending_or_died(held.folder), within=5, what="that is known")
        until(lambda: supervision.current(held.folder) == [], within=5, what="the shim leaves, too")

    @pytest.mark.parametrize("milliseconds", [0, 10, 20, 40, 80])
    def test_nothing_outlives_its_shim_whenever_that_dies(self, tmp_path: Path, milliseconds: int) -> None:
        mark = f"{499 + milliseconds + os.getpid() / 1e7:.7f}"
        held = hold(tmp_path, f"trap '' TERM; (env -i setsid sleep {mark} &); sleep {mark} & wait")
        time.sleep(milliseconds / 1000)
        os.kill(held.shim.pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            until(lambda: not inside_of(held.folder), within=3, what="the sandbox is gone")
        assert not running(mark)
        supervision.kill(held.folder)  # bubblewrap that lost its parent at once waits for a word of it for ever
        assert not inside_of(held.folder)

    def test_what_the_program_left_to_end_by_itself_can_still_speak(self, tmp_path: Path) -> None:
        assert said(hold(tmp_path, "(sleep 0.1; echo late) & echo now")) == "now\nlate"

    def test_a_flood_is_cut_as_ever(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' '\\n'", output_bytes=100_000)
        ending = held.end()
        assert (ending.exit_code, ending.truncated, ending.output_bytes) == (0, True, 3_000_000)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def running(mark: str) -> list[int]:
    """Who sleeps for exactly so long."""
    wanted = f"sleep\0{mark}\0".encode()
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if cmdline(int(one.name)) == wanted]


def inside_of(folder: Path) -> list[int]:
    """Who was started with the session's HOME in its arguments: keeper and bubblewrap; inside, its first process."""
    home = os.fsencode(folder / "home")
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if home in cmdline(int(one.name))]
