"""The supervisor, as a process of its own that gets real signals."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import until

# argv: name=shell line …; a name with a "!" ends last, one with a "~" is not ours.
SUPERVISE = """
import sys
from config.supervisor import Program, Stopping, Supervisor
programs = []
for argument in sys.argv[1:]:
    name, _, line = argument.partition("=")
    options = {"ends_last": "!" in name, "is_ours": "~" not in name}
    programs.append(Program(name.strip("!~"), ["sh", "-c", line], hint="Look here.", **options))
with Supervisor(program.name for program in programs) as supervisor:
    for program in programs:
        supervisor.start(program)
    supervisor.say(str(list(supervisor.pids.values())))
    try:
        supervisor.run()
    except Stopping:
        pass
print("fallen:", supervisor.fallen)
"""
GO_ON = "echo up; while :; do sleep 0.1; done"
POLITE = f"trap 'echo bye; exit' TERM; {GO_ON}"
SLOW = f"trap 'sleep 0.5; echo bye; exit' TERM; {GO_ON}"
STUBBORN = f"trap '' TERM INT; {GO_ON}"

Start = Callable[..., "Supervised"]


class Supervised:
    """The process, and what it printed so far, without the times."""

    def __init__(
        self, environment: dict[str, str], output: Path, programs: dict[str, str], *, prefix: tuple[str, ...] = ()
    ) -> None:
        self._output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-c", SUPERVISE, *(f"{name}={line}" for name, line in programs.items())],
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # Also where the tests themselves were started by nohup, which is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )

    @property
    def lines(self) -> list[str]:
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in self._output.read_text().splitlines()]

    def ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_for(self, line: str) -> None:
        until(lambda: line in self.lines, within=10, what=f"{line!r} in {self.lines}")

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    begun: list[Supervised] = []

    def start(**programs: str) -> Supervised:
        begun.append(Supervised(environment, tmp_path / f"output-{len(begun)}", programs))
        return begun[-1]

    yield start
    for supervised in begun:
        if supervised.process.poll() is None:
            supervised.process.send_signal(signal.SIGINT)
            supervised.process.send_signal(signal.SIGINT)
            supervised.process.wait()


def test_lines_carry_the_name_of_who_said_them(start: Start) -> None:
    supervised = start(web="printf 'caf\\303\\251\\n\\377 half a '; sleep 0.2; echo line; sleep 9", long_name="sleep 9")
    supervised.wait_for("web       | café")
    supervised.wait_for("web       | � half a line")


def test_a_signal_ends_all_and_the_marked_one_last(start: Start) -> None:
    supervised = start(**{"broker!": POLITE, "web": SLOW})
    supervised.wait_for("web    | up")
    supervised.wait_for("broker | up")
    children = supervised.children
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(timeout=10) == 0
    said = supervised.lines
    assert said.index("web    | bye") < said.index("broker | bye")
    assert "fallen: " in said
    assert not any(child.is_running() for child in children)


def test_a_program_that_is_not_ours_gets_nothing_of_our_environment(start: Start, environment: dict[str, str]) -> None:
    environment["SECRET_KEY"] = "of ours alone"
    supervised = start(**{"web": "echo key $SECRET_KEY; sleep 9", "broker~": "echo key $SECRET_KEY; sleep 9"})
    supervised.wait_for("web    | key of ours alone")
    supervised.wait_for("broker | key")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_end_it_too(start: Start, number: signal.Signals) -> None:
    supervised = start(web=POLITE)
    supervised.wait_for("web  | up")
    supervised.process.send_signal(number)
    assert supervised.process.wait(timeout=10) == 0
    assert "web  | bye" in supervised.lines


def test_who_ends_by_itself_is_named_and_the_others_are_ended(start: Start) -> None:
    supervised = start(web=POLITE, beat="sleep 0.3; echo oh no; printf 'the last word'; exit 3")
    assert supervised.process.wait(timeout=10) == 0
    said = supervised.lines
    assert said.index("beat | the last word") < said.index("rota | beat ended by itself (exit code 3). Look here.")
    assert "web  | bye" in said
    assert "fallen: beat" in said


def test_who_is_killed_is_said_to_be(start: Start) -> None:
    supervised = start(web=POLITE)
    supervised.wait_for("web  | up")
    supervised.children[0].kill()
    supervised.wait_for("rota | web ended by itself (signal SIGKILL). Look here.")


def test_what_a_program_started_ends_with_it(start: Start) -> None:
    supervised = start(web="sleep 60 & echo up; wait")
    supervised.wait_for("web  | up")
    everybody = psutil.Process(supervised.process.pid).children(recursive=True)
    assert len(everybody) == 2
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(timeout=10) == 0
    assert psutil.wait_procs(everybody, timeout=2)[1] == []


def test_a_second_ctrl_c_does_not_wait_for_who_will_not_end(start: Start) -> None:
    supervised = start(web=STUBBORN)
    supervised.wait_for("web  | up")
    children = supervised.children
    supervised.process.send_signal(signal.SIGINT)
    assert not supervised.ends_within(0.5)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(timeout=2) == 0
    assert not any(child.is_running() for child in children)


def test_who_will_not_end_is_killed_in_time(start: Start) -> None:
    supervised = start(**{"web": STUBBORN, "broker!": STUBBORN})
    supervised.wait_for("web    | up")
    supervised.wait_for("broker | up")
    children = supervised.children
    began = time.monotonic()
    supervised.process.send_signal(signal.SIGTERM)
    supervised.process.wait(timeout=12)
    assert time.monotonic() - began < 10
    assert not any(child.is_running() for child in children)


def test_its_programs_end_when_it_is_killed(start: Start) -> None:
    supervised = start(web=POLITE, beat=POLITE)
    supervised.wait_for("web  | up")
    supervised.wait_for("beat | up")
    children = supervised.children
    supervised.process.kill()
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_its_programs_end_when_nobody_reads_any_more(environment: dict[str, str]) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, "web=while :; do echo up; sleep 0.1; done"],
        env=environment,
        stdout=write,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    assert os.read(read, 10)
    os.close(read)
    process.wait(timeout=10)


def test_a_program_started_by_nohup_outlives_its_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    supervised = Supervised(environment, tmp_path / "output", {"web": POLITE}, prefix=("nohup",))
    supervised.wait_for("web  | up")
    supervised.process.send_signal(signal.SIGHUP)
    assert not supervised.ends_within(0.5)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(timeout=10) == 0


def test_a_flood_does_not_keep_the_others_from_being_heard(start: Start) -> None:
    supervised = start(flood="yes", web="sleep 0.3; echo here; sleep 9")
    supervised.wait_for("web   | here")


def test_a_closed_output_costs_no_time(start: Start) -> None:
    supervised = start(closed="exec >&- 2>&-; sleep 9", web="sleep 0.5; echo here; sleep 9")
    supervised.wait_for("web    | here")
    began = psutil.Process(supervised.process.pid).cpu_times().user
    assert not supervised.ends_within(0.5)
    assert psutil.Process(supervised.process.pid).cpu_times().user - began < 0.1
