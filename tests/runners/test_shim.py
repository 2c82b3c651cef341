"""What the shim holds, seen from outside: real programs under the real shim."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runners import following, processes, shim, supervision
from runners.base import ProcessIdentity, SupervisionError
from runners.claude import ANSWERS
from tests.processes import until
from tests.runners.held import Held, hold, hold_python


def memory(shim: ProcessIdentity, field: str) -> int:
    """In kB, out of /proc/PID/status."""
    for line in Path(f"/proc/{shim.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(field)


def cpu_ticks(shim: ProcessIdentity) -> int:
    fields = Path(f"/proc/{shim.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_descriptors_are_closed_also_beyond_a_limit_that_was_lowered() -> None:
    child = os.fork()
    if child == 0:
        is_open = True
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 900)
            resource.setrlimit(resource.RLIMIT_NOFILE, (800, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            shim.close_beyond(shim.WORD)
            is_open = Path("/proc/self/fd/900").exists()
        finally:
            os._exit(is_open)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def pid_in(held: Held, name: bytes) -> int:
    """The pid that the program prints in a line `name PID`."""
    told = [text.split() for text in held.texts()]
    return next(int(words[1]) for words in told if words[0] == name)


class TestAProgramThatEndsByItself:
    def test_has_its_lines_recorded_in_order_and_its_exit_code(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "echo one; echo two; sleep 0.05; echo oops >&2; sleep 0.05; echo three")
        ending = held.end()
        assert [(line.stream, line.data) for line in held.read()] == [
            ("out", b"one"),
            ("out", b"two"),
            ("err", b"oops"),
            ("out", b"three"),
        ]
        assert (ending.exit_code, ending.signal, ending.ended_by) == (0, None, "")
        assert ending.output_bytes == len("one\ntwo\noops\nthree\n")
        assert ending.started_at_ms <= held.lines[0].at_ms <= held.lines[-1].at_ms <= ending.ended_at_ms

    def test_keeps_a_non_zero_exit_code(self, tmp_path: Path) -> None:
        assert hold(tmp_path, "sh", "-c", "exit 7").end().exit_code == 7

    def test_that_kills_itself_has_a_signal_and_no_exit_code(self, tmp_path: Path) -> None:
        ending = hold(tmp_path, "sh", "-c", "kill -SEGV $$").end()
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, signal.SIGSEGV, "")

    def test_has_bytes_that_are_no_text_kept_as_they_are(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "printf", r"\377\376 caf\351\000\r 10%%\r 20%%\n\033[31mred\nno newline")
        held.end()
        assert held.texts() == [b"\xff\xfe caf\xe9\x00\r 10%\r 20%", b"\x1b[31mred", b"no newline"]

    def test_leaves_no_child_running_behind_it(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "(trap '' HUP; setsid sleep 60 &); (sleep 60 &); echo done", kill_grace=5)
        assert held.end().exit_code == 0
        assert held.texts() == [b"done"]

    def test_does_not_wait_for_a_grandchild_that_holds_its_pipes_open(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        hold(tmp_path, "sh", "-c", "(trap '' TERM; while :; do sleep 60; done) & echo done", kill_grace=0.2).end()
        assert time.monotonic() - begun < 5

    def test_has_the_last_words_of_what_it_left_behind_recorded(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "bash", "-c", "exec > >(sleep 0.1; sed 's/^/> /'); echo late")
        assert held.end().exit_code == 0
        assert held.texts() == [b"> late"]


class TestAProgramThatCanNotBeStarted:
    def test_is_told_to_be_missing_from_the_path(self, tmp_path: Path) -> None:
        ending = hold(tmp_path, "no-such-program").end()
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, None, "program_missing")
        assert ending.message == "no-such-program: it is not on the PATH."

    @pytest.mark.parametrize(
        ("content", "mode", "why"),
        [
            ("#!/bin/sh\n", 0o600, "it is not executable"),
            ("#!/no/such/interpreter\n", 0o700, "its first line names an interpreter that is not here"),
            ("echo hello\n", 0o700, "it is neither a program nor has it a first line that begins with #!"),
        ],
    )
    def test_is_told_apart_from_one_that_is_unfit(self, tmp_path: Path, content: str, mode: int, why: str) -> None:
        program = tmp_path / "program"
        program.write_text(content)
        program.chmod(mode)
        ending = hold(tmp_path, str(program)).end()
        assert ending.ended_by == "program_missing"
        assert ending.message == f"{program}: {why}."

    def test_for_want_of_its_working_directory_is_told_so(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "true", launch={"working_directory": "gone"})
        assert f"The working directory {tmp_path / 'gone'} could not be entered" in held.end().message


class TestLimits:
    def test_the_time_limit_ends_three_generations_that_resist(self, tmp_path: Path) -> None:
        resist = "trap '' TERM; echo {} $$; while :; do sleep 60; done"
        grandchild = resist.format("grandchild")
        child = f'setsid sh -c "{grandchild.replace("$$", "$PPID")}" & ' + resist.format("child")
        program = f"(setsid sh -c '{resist.format('own')}' &) ; ({child}) & {resist.format('program')}"
        held = hold(tmp_path, "sh", "-c", program, timeout=1, kill_grace=0.3)
        ending = held.end()
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, signal.SIGKILL, "timed_out")
        assert ending.message == "The limit is 1 s."
        assert {text.split()[0] for text in held.texts()} == {b"own", b"child", b"grandchild", b"program"}
        assert held.texts("shim") == [b"timed_out: It takes too long. The limit is 1 s."]

    def test_a_shutdown_has_no_patience_with_a_program_that_resists(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 60; done", kill_grace=60)
        until(held.texts, within=5, what="it is up")
        supervision.request_stop(held.folder, "shutdown")
        assert held.end(within=6).ended_by == "shutdown"

    def test_a_program_may_end_in_order_when_its_time_is_up(self, tmp_path: Path) -> None:
        tidy = "import signal, sys; signal.signal(15, lambda *_: sys.exit('tidied')); print('up'); signal.pause()"
        held = hold_python(tmp_path, tidy, timeout=1)
        ending = held.end()
        assert (ending.exit_code, ending.ended_by) == (1, "timed_out")
        assert held.texts("err") == [b"tidied"]

    def test_a_stopped_program_ends_at_term_too(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        assert hold(tmp_path, "sh", "-c", "kill -STOP $$", timeout=0.3).end().signal == signal.SIGTERM
        assert time.monotonic() - begun < 4

    def test_silence_ends_a_program_that_says_nothing_any_more(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.3; done; sleep 60", silence=0.8)
        assert held.end().ended_by == "stalled"
        assert held.texts() == [b"1", b"2", b"3", b"4"]

    def test_what_clears_its_environment_and_leaves_its_parent_is_ended_as_well(self, tmp_path: Path) -> None:
        escape = "(env -i setsid sh -c 'echo escaped $$; exec sleep 60' &) ; sleep 60"
        held = hold(tmp_path, "sh", "-c", escape)
        until(held.texts, within=5, what="it has escaped")
        supervision.request_stop(held.folder, "cancelled")
        held.end()
        assert processes.start_ticks(pid_in(held, b"escaped")) is None

    def test_a_marked_process_that_descends_from_somebody_else_is_ended_as_well(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", 'until [ -e "$HOME/go" ]; do sleep 0.02; done')
        stranger = subprocess.Popen(["sleep", "60"], env={processes.MARKER: str(held.folder)})
        (held.folder / "home" / "go").touch()
        assert held.end().exit_code == 0
        assert stranger.wait(timeout=5) == -signal.SIGTERM


class TestStopping:
    def test_a_request_is_heeded_at_once_and_its_reason_kept(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        begun = time.monotonic()
        supervision.request_stop(held.folder, "cancelled")
        supervision.request_stop(held.folder, "shutdown")
        ending = held.end()
        assert time.monotonic() - begun < 3
        assert (ending.signal, ending.ended_by) == (signal.SIGTERM, "cancelled")

    def test_a_request_is_heeded_in_a_flood_too(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "yes", output_bytes=100_000)
        supervision.request_stop(held.folder, "shutdown")
        assert held.end(within=3).ended_by == "shutdown"

    def test_term_to_the_shim_means_shutdown_and_hangup_means_nothing(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        os.kill(held.shim.pid, signal.SIGHUP)
        os.kill(held.shim.pid, signal.SIGINT)
        os.kill(held.shim.pid, signal.SIGTERM)
        assert held.end().ended_by == "shutdown"

    def test_asked_before_the_start_nothing_is_started(self, tmp_path: Path) -> None:
        (tmp_path / "session").mkdir()
        supervision.request_stop(tmp_path / "session", "cancelled")
        held = hold(tmp_path, "touch", str(tmp_path / "started"))
        assert held.end().ended_by == "cancelled"
        assert not (tmp_path / "started").exists()

    def test_an_unknown_word_in_the_stop_file_cancels(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        (held.folder / "stop").write_text("please!\n")
        os.kill(held.shim.pid, signal.SIGUSR1)
        assert held.end().ended_by == "cancelled"


def answers(*ids: str, then: str = "sleep 60") -> str:
    """A shell program that prints answers of a model as Claude Code does, and goes on."""
    lines = (json.dumps({"type": "assistant", "message": {"id": id, "model": "m"}}) for id in ids)
    return "; ".join([*(f"echo '{line}'; sleep 0.05" for line in lines), then])


class TestTheCapOnTurns:
    LAUNCH: Mapping[str, Any] = {"answers": ANSWERS, "result_type": "result"}

    def test_ends_a_program_that_goes_on_beyond_it(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", answers("a", "a", "b", "c"), launch=self.LAUNCH, turns=2)
        ending = held.end()
        assert (ending.ended_by, ending.message) == ("max_turns", "The cap is 2.")
        assert held.texts("shim") == [b"max_turns: It takes more turns than it may. The cap is 2."]

    def test_holds_while_no_worker_follows(self, tmp_path: Path) -> None:
        held = hold(
            tmp_path, "sh", "-c", answers("a", "b", then="while :; do sleep 1; done"), launch=self.LAUNCH, turns=1
        )
        until(lambda: not supervision.is_alive(held.shim), within=10, what="the shim ends it by itself")
        assert held.end().ended_by == "max_turns"

    def test_lets_a_program_go_up_to_it(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", answers("a", "b", then="exit 0"), launch=self.LAUNCH, turns=2)
        assert (held.end().ended_by, held.end().exit_code) == ("", 0)

    def test_is_nothing_after_the_result(self, tmp_path: Path) -> None:
        result = json.dumps({"type": "result"})
        program = f"echo '{result}'; {answers('a', 'b', 'c', then='exit 0')}"
        assert hold(tmp_path, "sh", "-c", program, launch=self.LAUNCH, turns=1).end().ended_by == ""

    def test_counts_answers_that_come_in_long_lines_and_in_one_piece(self, tmp_path: Path) -> None:
        program = (
            "import json, time\n"
            "for n in range(4): print(json.dumps({'message': {'id': n, 'text': 'x' * 400_000}, 'type': 'assistant'}))\n"
            "time.sleep(60)"
        )
        assert hold_python(tmp_path, program, launch=self.LAUNCH, turns=3).end().ended_by == "max_turns"


class TestResultLines:
    def test_after_its_result_a_program_has_a_grace_and_is_ended(self, tmp_path: Path) -> None:
        program = "echo 'RESULT: fine'; echo more; sleep 60"
        held = hold(tmp_path, "sh", "-c", program, launch={"result_prefix": "RESULT: "}, result_grace=0.3)
        ending = held.end()
        assert (ending.ended_by, ending.signal) == ("lingered", signal.SIGTERM)
        assert held.texts() == [b"RESULT: fine", b"more"]

    def test_the_silence_limit_does_not_cut_the_grace_short(self, tmp_path: Path) -> None:
        program = "echo 'RESULT: fine'; sleep 0.9"
        held = hold(tmp_path, "sh", "-c", program, launch={"result_prefix": "RESULT: "}, silence=0.5)
        assert (held.end().exit_code, held.end().ended_by) == (0, "")

    def test_a_time_limit_in_the_grace_does_not_make_it_a_time_out(self, tmp_path: Path) -> None:
        program = "echo 'RESULT: fine'; sleep 60"
        held = hold(tmp_path, "sh", "-c", program, launch={"result_prefix": "RESULT: "}, timeout=0.8)
        assert held.end().ended_by == "lingered"

    def test_a_result_is_known_by_its_type_and_not_by_what_it_quotes(self, tmp_path: Path) -> None:
        quoted = json.dumps({"type": "user", "content": {"type": "result"}})
        launch = {"result_type": "result"}
        program = f"echo '{quoted}'; sleep 0.5; echo over"
        held = hold(tmp_path, "sh", "-c", program, launch=launch, result_grace=0.2)
        assert held.end().ended_by == ""
        real = json.dumps({"subtype": "success", "type": "result"})
        program = f"echo '{real}'; sleep 60"
        held = hold(tmp_path, "sh", "-c", program, name="real", launch=launch, result_grace=0.2)
        assert held.end().ended_by == "lingered"


class TestOutputWithoutBounds:
    def test_a_flood_is_cut_at_the_cap_and_its_result_line_kept(self, tmp_path: Path) -> None:
        flood = "for i in range(200_000): print(i, 'x' * 50)\nprint('RESULT: fine')"
        held = hold(
            tmp_path,
            *(sys.executable, "-I", "-S", "-c", flood),
            launch={"result_prefix": "RESULT: "},
            output_bytes=1_000_000,
        )
        ending = held.end()
        assert ending.truncated
        assert ending.output_bytes > 10_000_000
        assert (held.folder / "output.log").stat().st_size < 1_001_000
        assert held.texts()[-1] == b"RESULT: fine"
        assert held.texts("shim") == [b"truncated: The output passed 1000000 bytes. The rest is not kept."]

    def test_a_line_of_twenty_megabytes_is_kept_whole_in_little_memory(self, tmp_path: Path) -> None:
        program = "print('x' * 20_000_000); print('end'); import time; time.sleep(60)"
        held = hold_python(tmp_path, program)
        until(lambda: b"end" in held.texts(), within=10, what="the line is read")
        peak = memory(held.shim, "VmHWM")
        supervision.request_stop(held.folder, "cancelled")
        held.end()
        assert peak < 16_000
        beginning, _, remark = held.texts()[0].partition(b" [")
        more = int(remark.removesuffix(b" more bytes of this line]"))
        assert len(beginning) + more == 20_000_000
        assert following.LINE_BYTES - 100 < len(beginning) <= following.LINE_BYTES
        assert (held.folder / "output.log").stat().st_size > 20_000_000

    def test_a_full_disk_ends_the_session_and_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "session").mkdir()
        (tmp_path / "session" / "output.log").symlink_to("/dev/full")
        ending = hold(tmp_path, "sh", "-c", "while :; do echo more; sleep 0.1; done").end()
        assert (ending.ended_by, ending.message) == ("disk_full", "No space left on device.")
        assert ending.truncated


class TestWhatTheProgramGets:
    def test_exactly_the_environment_of_the_launch_and_the_marker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CANARY", "of the worker")
        held = hold(tmp_path, "env", "-0", environment={"GREETING": "grüß dich"})
        held.end()
        assert set(held.texts()[0].decode().strip("\0").split("\0")) == {
            "PATH=/usr/local/bin:/usr/bin:/bin",
            f"HOME={held.folder / 'home'}",
            "GREETING=grüß dich",
            f"ROTA_SESSION={held.folder}",
        }

    def test_no_process_of_the_session_has_anything_of_the_workers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CANARY", "of the worker")
        held = hold(tmp_path, "sleep", "60", environment={"SECRET": "of the schedule"})
        program = [process.pid for process in supervision.current(held.folder) if process != held.shim]
        assert len(program) == 1
        assert b"CANARY" not in Path(f"/proc/{program[0]}/environ").read_bytes()
        if os.geteuid() == 0:  # nobody else can look
            assert Path(f"/proc/{held.shim.pid}/environ").read_bytes() == b""
        assert not (held.folder / "launch.json").exists()
        supervision.request_stop(held.folder, "cancelled")
        held.end()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root sees everything")
    def test_its_shim_is_closed_to_the_program(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "cat /proc/$PPID/environ /proc/$PPID/mem; ls /proc/$PPID/fd")
        held.end()
        assert held.texts() == []
        assert [b"Permission denied" in text for text in held.texts("err")] == [True] * 3

    def test_an_empty_standard_input_or_the_file_that_is_named(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "wc", "-c")
        held.end()
        assert held.texts() == [b"0"]
        launch = {"files": {"in/prompt": b"Do it."}, "stdin_file": "in/prompt"}
        held = hold(tmp_path, "cat", name="prompted", launch=launch)
        held.end()
        assert held.texts() == [b"Do it."]

    def test_no_core_dumps_no_foreign_descriptors_and_the_usual_signals(self, tmp_path: Path) -> None:
        see = "ulimit -c; ls /proc/self/fd | wc -w; grep -E 'Sig(Blk|Ign)' /proc/self/status"
        held = hold(tmp_path, "sh", "-c", see)
        held.end()
        core, descriptors, blocked, ignored = held.texts()
        assert (core, descriptors) == (b"0", b"4")  # the fourth is the directory being listed
        ordinary = (1 << 31) - 1  # glibc has its own use for 32 and 33
        assert int(blocked.split()[1], 16) & ordinary == 0
        assert int(ignored.split()[1], 16) & ordinary == 0

    def test_a_session_of_its_own(self, tmp_path: Path) -> None:
        held = hold_python(tmp_path, "import os; print(os.getsid(0) == os.getpid() == os.getpgrp())")
        held.end()
        assert held.texts() == [b"True"]


class TestWhatTheShimCosts:
    def test_little_memory_and_no_time_while_nothing_happens(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sleep", "60")
        before = cpu_ticks(held.shim)
        time.sleep(0.6)
        assert cpu_ticks(held.shim) - before <= 1
        assert memory(held.shim, "VmRSS") < 15_000
        supervision.request_stop(held.folder, "cancelled")
        held.end()


class TestAShimThatFails:
    def test_before_its_start_is_reported_with_its_last_words(self, tmp_path: Path) -> None:
        folder = tmp_path / "session"
        (folder / "ending.json.part").mkdir(parents=True)
        with pytest.raises(SupervisionError, match=r"no sign of life.*Is a directory"):
            hold(tmp_path, "true", environment={"SECRET": "of the schedule"})
        assert supervision.current(folder) == []
        assert not (folder / "launch.json").exists()

    def test_while_its_program_runs_ends_it_all_the_same(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "sh", "-c", "echo up; exec sleep 60", kill_grace=0.2)
        until(held.texts, within=5, what="it is up")
        (held.folder / "ending.json.part").unlink()
        os.kill(held.shim.pid, signal.SIGTERM)
        until(lambda: supervision.ending_or_died(held.folder), within=5, what="the shim fails")
        died = supervision.ending_or_died(held.folder)
        assert died is not None
        assert died.ended_by == "shim_died"
        assert "No such file or directory" in died.message
        assert supervision.current(held.folder) == []
