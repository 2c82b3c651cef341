"""Runs a handful of programs side by side and prints what they say, each line under a name.

The loop is our own, with honcho's printer and colours. Honcho's manager ends all programs at once
and kills after five seconds, where the broker has to go last and sessions want their time to end;
and it keeps one more process per program, which with their programs go on when it is killed.
"""

import codecs
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import IO, NoReturn, Self

from honcho.colour import get_colours
from honcho.printer import Message, Printer

OURS = "rota"  # the name of lines that no program said

_GRACE = 7.0  # seconds to end after SIGTERM
_LAST_GRACE = 1.5  # the same for those that end last
_TURN = 0.1  # seconds to wait for output
_READ = 65536  # bytes, as many as a pipe holds
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # beyond that of this process
    hint: str = ""  # where to look when it ends by itself
    ends_last: bool = False
    is_ours: bool = True  # needs our settings, and keeps them to itself. Others get the way to programs alone.


class _Child:
    """A program that was started, and the output of it that is not a whole line yet."""

    def __init__(self, program: Program, colour: str) -> None:
        self.program = program
        self.colour = colour
        self.process = subprocess.Popen(
            program.command,
            env={**_inherited(program), **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal goes to a whole group: here it comes to the supervisor alone.
            start_new_session=True,
            # There is one thread here, so the fork is safe.
            preexec_fn=_end_with(os.getpid()),
        )
        assert self.process.stdout is not None
        self.output: IO[bytes] = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def read(self) -> Iterator[str] | None:
        """The lines that are there, without waiting. None when nothing will come any more."""
        try:
            data = os.read(self.output.fileno(), _READ)
        except BlockingIOError:
            return iter(())
        return self._lines(data) if data else None

    def last_lines(self) -> Iterator[str]:
        """What it left in the pipe, whole line or not."""
        yield from self.read() or ()
        yield self._rest()
        self.output.close()

    def _lines(self, data: bytes) -> Iterator[str]:
        *lines, self._line = (self._line + self._decoder.decode(data)).split("\n")
        yield from lines
        if len(self._line) > _READ:
            yield self._rest()

    def _rest(self) -> str:
        rest, self._line = self._line, ""
        return rest


def _inherited(program: Program) -> Mapping[str, str]:
    return os.environ if program.is_ours else {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


def _end_with(parent: int) -> Callable[[], None]:
    """In a new child: ask the kernel for SIGTERM when `parent` is gone, even by SIGKILL."""

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # it was faster than us

    return ask


class Stopping(Exception):
    """A signal asks for the end, or a program has ended by itself."""


class Supervisor:
    """Starts programs, and ends them all with itself, those marked so after all others.

    One thread: output is printed, and signals and ends are noticed, while somebody waits here.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._printer = Printer(sys.stdout, width=max(map(len, [OURS, *names])))
        self._colours = get_colours()
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._asked_to_stop = False
        self._interrupts = 0
        self.fallen = ""  # the program that ended by itself

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, self._hear)
        signal.signal(signal.SIGTERM, self._hear)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else it was started by nohup
            signal.signal(signal.SIGHUP, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._asked_to_stop = True
        self._end([child for child in self._children if not child.program.ends_last], _GRACE)
        self._end(self._children, _LAST_GRACE)

    @property
    def pids(self) -> dict[str, int]:
        return {child.program.name: child.process.pid for child in self._children}

    def start(self, program: Program) -> None:
        child = _Child(program, next(self._colours))
        self._children.append(child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def run(self) -> NoReturn:
        """Until it raises Stopping."""
        while True:
            self._turn()
            self._raise_if_stopping()

    def wait_until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Whether `condition` came true within so many seconds. Raises Stopping."""
        deadline = time.monotonic() + within
        while True:
            self._raise_if_stopping()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            self._turn()

    def say(self, text: str) -> None:
        self._print(text.splitlines(), None)

    def _raise_if_stopping(self) -> None:
        if self._asked_to_stop or self.fallen:
            raise Stopping

    def _turn(self) -> None:
        """Wait a moment for something to print, print it, and notice who ended."""
        for key, _ in self._selector.select(_TURN):
            if (lines := key.data.read()) is None:
                self._selector.unregister(key.fileobj)
            else:
                self._print(lines, key.data)
        for child in [child for child in self._children if child.process.poll() is not None]:
            if child.output in self._selector.get_map():
                self._selector.unregister(child.output)
            self._children.remove(child)
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)  # what it started and left, a fetch say
            self._print(child.last_lines(), child)
            if not self._asked_to_stop and not self.fallen:
                self.fallen = child.program.name
                how = _describe(child.process.returncode)
                self.say(f"{self.fallen} ended by itself ({how}). {child.program.hint}".rstrip())

    def _hear(self, number: int, _: FrameType | None) -> None:
        # Nothing else may happen here: it can come in the middle of a print.
        self._asked_to_stop = True
        self._interrupts += number == signal.SIGINT

    def _end(self, children: Sequence[_Child], grace: float) -> None:
        """SIGTERM, and SIGKILL for what is left after `grace` or at a second Ctrl-C."""
        deadline = time.monotonic() + grace
        for child in children:
            child.process.terminate()
        while any(child in self._children for child in children):
            if time.monotonic() > deadline or self._interrupts > 1:
                for child in children:
                    child.process.kill()
            self._turn()

    def _print(self, lines: Iterable[str], child: _Child | None) -> None:
        name, colour = (child.program.name, child.colour) if child else (OURS, None)
        for line in lines:
            now = datetime.now().astimezone()
            try:
                self._printer.write(Message("line", line, now, name, colour))
            except OSError:  # the terminal, or the program behind a pipe, is gone
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                self._asked_to_stop = True


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
