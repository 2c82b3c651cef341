"""The shim's watch over one session: its process, its two pipes, its limits, the end of its tree.

    running ──ends by itself──► settling (0.5 s) ─┐
       └─────limit, stop, disk full───────────────┴─► TERM ──grace──► KILL ──nobody left──► ended

TERM and KILL go to the whole tree: who descends from the shim, and who carries the marker. The shim
is a subreaper: who loses its parent becomes its child. So "no child left" proves that nobody is
left below.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import os
import select
import time

from runners import confinement, processes, recording, spawning
from runners.answer_lines import AnswerLines
from runners.light import signal
from runners.result_lines import ResultLine

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import Any

    from runners.shim import Folder

READ_BYTES = 32 * 1024
SETTLE = 0.5  # seconds for what the program left behind to end by itself, a `tee` say
LOOK = 5.0  # seconds between two looks at the stop file when nobody knocks
SHUTDOWN_GRACE = 3.0
AT_ONCE = ("out_of_memory", "too_many_processes")
GIVE_UP = 10.0  # seconds of KILL after which what is left can't be ended: it hangs in the kernel
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
KNOCKS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)


class Custody:
    """One session, held. Instants are monotonic seconds, but for those that end in `_ms`."""

    def __init__(self, folder: Folder, launch: Any) -> None:
        self._folder = folder
        self._launch = launch
        limits = launch["limits"]
        self._timeout: float = limits["timeout"]
        self._silence: float | None = limits["silence"]
        self._result_grace: float = limits["result_grace"]
        self._kill_grace: float = limits["kill_grace"]
        self._turns: int | None = limits["turns"]
        self._answers = AnswerLines(launch["answers"])
        self._recorder = recording.Recorder(
            folder / "output.log",
            cap=limits["output_bytes"],
            result=ResultLine(prefix=launch["result_prefix"], kind=launch["result_type"]),
            answers=self._answers,
        )
        self._confinement = confinement.Confinement(folder.path, limits)
        self._streams: dict[int, recording.Stream] = {}
        self._poller = select.poll()
        self._bell = _hang_bell(self._poller)
        self._born = processes.start_ticks(os.getpid()) or 0
        self._forks = processes.forks()
        self._pid = 0
        self._status: int | None = None
        self._childless = False
        self._ended_by = ""
        self._message = ""
        self._left = 0
        self._result_at: float | None = None
        self._started_at = self._heard_at = time.monotonic()
        self._started_at_ms = self._ended_at_ms = recording.now_ms()

    def run(self) -> None:
        """From the start of the program until nobody of its tree is left."""
        self._heed_stop_file()
        if self._ended_by:
            self._confinement.leave()
            return
        if self._confinement.fault:
            self._recorder.note("memory", self._confinement.fault)
        try:
            self._start()
        except spawning.StartError as error:
            self._end("program_missing", str(error), message=str(error))
            self._confinement.leave()
            return
        while self._status is None and not self._ended_by:
            self._attend(self._next_limit() - time.monotonic())
            self._check_limits()
        self._heed_kernel()
        if self._status is None or not self._attend_until_alone(SETTLE):
            self.end_tree()
        self._confinement.leave()
        self._drain()
        self._heed_disk()

    def end_tree(self) -> None:
        """TERM to whoever is left, a grace, then KILL until nobody is."""
        self._reap()
        if not self._alone():
            self._signal_tree(signal.SIGTERM, signal.SIGCONT)
            self._attend_until_alone(self._grace())
        patience = time.monotonic() + GIVE_UP
        while not self._alone():
            if time.monotonic() > patience:
                self._left = len(self._tree())
                self._message += f" {self._left} of its processes could not be ended."
                return
            self._signal_tree(signal.SIGKILL)
            self._attend_until_alone(0.05)
            self._reap()

    def _grace(self) -> float:
        """Between TERM and KILL.

        Whoever stops a machine has no patience: the worker wants to write down the end. And what takes a machine's
        memory would go on to take it.
        """
        if self._ended_by in AT_ONCE:
            return 0.0
        return min(self._kill_grace, SHUTDOWN_GRACE) if self._ended_by == "shutdown" else self._kill_grace

    def ending(self) -> dict[str, Any]:
        """The fields of `runners.base.Ending`, and how many processes could not be ended."""
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        return {
            "exit_code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "ended_by": self._ended_by,
            "started_at_ms": self._started_at_ms,
            "ended_at_ms": recording.now_ms() if code is None else self._ended_at_ms,
            "output_bytes": self._recorder.printed,
            "truncated": self._recorder.truncated,
            "message": self._message.strip()[:1000],
            "left": self._left,
        }

    def _start(self) -> None:
        out, err = _pipe(), _pipe()
        self._pid = spawning.spawn(
            self._launch["argv"],
            self._launch["environment"] | {processes.MARKER: self._folder.path},
            cwd=self._launch["cwd"],
            stdin=self._launch["stdin"],
            out=out[1],
            err=err[1],
            enter=self._confinement.enter,
        )
        self._launch = None  # the secrets need not stay in memory
        self._started_at_ms = recording.now_ms()
        for (read, write), code in ((out, recording.OUT), (err, recording.ERR)):
            os.close(write)
            self._streams[read] = recording.Stream(code)
            self._poller.register(read, select.POLLIN)
        try:
            self._folder.write("process.json", self._identities())
            self._folder.tell(self.name)
        except OSError as error:
            self._end("disk_full", "Its folder can't be written.", message=f"{error.strerror}.")
        self._heed_stop_file()  # one that came before anybody could know whom to wake

    @property
    def name(self) -> bytes:
        """The shim's pid and its start in ticks."""
        return b"%d %d" % (os.getpid(), self._born)

    def _identities(self) -> dict[str, Any]:
        return {
            "shim": {"pid": os.getpid(), "start_ticks": self._born},
            "program": {"pid": self._pid, "start_ticks": processes.start_ticks(self._pid) or 0},
            "cgroup": self._confinement.cgroup,
            "boot_id": processes.boot_id(),
            "started_at_ms": self._started_at_ms,
        }

    def _next_limit(self) -> float:
        limits = [self._started_at + self._timeout, time.monotonic() + LOOK]
        if self._result_at is not None:
            limits.append(self._result_at + self._result_grace)
        elif self._silence is not None:
            limits.append(self._heard_at + self._silence)
        if (look_at := self._confinement.next_look()) is not None:
            limits.append(look_at)
        return min(limits)

    def _check_limits(self) -> None:
        now = time.monotonic()
        late = now >= self._started_at + self._timeout
        if broken := self._recorder.broken:
            self._end("disk_full", "Its output could not be kept.", message=f"{broken}.")
        elif self._result_at is not None:
            if late or now >= self._result_at + self._result_grace:
                self._end("lingered", f"It went on {now - self._result_at:.1f} s after its result.")
        elif self._turns is not None and self._answers.count > self._turns:
            message = f"The cap is {self._turns}."
            self._end("max_turns", f"It takes more turns than it may. {message}", message=message)
        elif late:
            message = f"The limit is {self._timeout:g} s."
            self._end("timed_out", f"It takes too long. {message}", message=message)
        elif self._silence is not None and now >= self._heard_at + self._silence:
            message = f"The limit is {self._silence:g} s."
            self._end("stalled", f"It prints nothing any more. {message}", message=message)
        self._check_tree(now)

    def _check_tree(self, now: float) -> None:
        look_at = self._confinement.next_look()
        if look_at is None or now < look_at:
            return
        ended_by, message = self._confinement.breach(now, self._descendants)
        if ended_by:
            self._end(ended_by, f"It takes more than it may. {message}", message=message)

    def _descendants(self) -> list[processes.Process]:
        """Quicker than the whole tree: whoever lost its parent is our child, and so needs no marker to be found."""
        return processes.tree([os.getpid()], but=[os.getpid()])

    def _heed_kernel(self) -> None:
        """What the kernel did in the session's cgroup; the end of the program itself is the end of the session."""
        sentence = self._confinement.killed_by_kernel()
        if not sentence:
            return
        killed = self._status is not None and os.waitstatus_to_exitcode(self._status) == -signal.SIGKILL
        if killed and not self._ended_by:
            self._ended_by, self._message = "out_of_memory", sentence
        self._recorder.note("out_of_memory" if self._ended_by == "out_of_memory" else "memory", sentence)

    def _heed_disk(self) -> None:
        """What could not be kept at the very end: the program's own end is then not the whole truth."""
        if self._recorder.broken and not self._ended_by:
            self._ended_by, self._message = "disk_full", f"{self._recorder.broken}."

    def _heed_stop_file(self) -> None:
        if reason := self._folder.stop_reason():
            self._end(reason, "It was asked to stop.")

    def _end(self, ended_by: str, note: str, *, message: str = "") -> None:
        """The first reason stays, and none comes after the program's own end."""
        if not self._ended_by and self._status is None:
            self._ended_by, self._message = ended_by, message
            self._recorder.note(ended_by, note)

    def _attend(self, seconds: float) -> bool:
        """Wait at most so long for output, a child's end or a knock, and deal with what came.

        True when there was output.
        """
        heard = False
        ready = self._poller.poll(max(0.0, seconds) * 1000)
        if not ready:
            self._heed_stop_file()
        for descriptor, _ in ready:
            if descriptor == self._bell:
                self._answer_bell()
            else:
                heard = self._read(descriptor) or heard
        return heard

    def _answer_bell(self) -> None:
        knocks = os.read(self._bell, 512)
        if signal.SIGCHLD in knocks:
            self._reap()
        if signal.SIGTERM in knocks:
            self._end("shutdown", "Its shim was told to end.")
        if signal.SIGUSR1 in knocks:
            self._heed_stop_file()

    def _read(self, descriptor: int) -> bool:
        stream = self._streams[descriptor]
        chunk = os.read(descriptor, READ_BYTES)
        now = time.monotonic()
        if chunk:
            self._heard_at = now
            result = self._recorder.feed(stream, chunk)
        else:
            result = self._recorder.finish(stream)
            self._poller.unregister(descriptor)
            os.close(descriptor)
            del self._streams[descriptor]
        if result:
            self._result_at = now
        return bool(chunk)

    def _reap(self) -> None:
        """Take the status of every child that ended: the program, and orphans that became ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = status
                self._ended_at_ms = recording.now_ms()

    def _tree(self) -> list[processes.Process]:
        own = os.getpid()
        return processes.tree([own], marker=self._folder.path, but=[own], since=self._born)

    def _alone(self) -> bool:
        """Without a child nobody descends from us: then there may be none but strangers who carry the marker."""
        if not self._childless:
            return False
        own = os.getpid()
        above = own if processes.are_later_ones_higher(own, self._forks) else 0
        return not processes.tree([], marker=self._folder.path, but=[own], since=self._born, above=above)

    def _signal_tree(self, *numbers: int) -> None:
        for process in self._tree():
            for number in numbers:
                processes.send(process, number)

    def _attend_until_alone(self, seconds: float) -> bool:
        """Whether nobody is left after at most so many seconds."""
        until = time.monotonic() + seconds
        while not self._alone():
            left = until - time.monotonic()
            if left <= 0:
                return False
            # The end of a child rings the bell; that of one who only carries the marker does not.
            self._attend(min(left, 0.1) if self._childless else left)
        return True

    def _drain(self) -> None:
        """Record what is still in the pipes. Should a stranger hold one open, it is left to him."""
        until = time.monotonic() + SETTLE
        while self._streams and self._attend(0) and time.monotonic() < until:
            pass
        for stream in self._streams.values():
            self._recorder.finish(stream)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    return read, write


def _hang_bell(poller: select.poll) -> int:
    """A descriptor on which signals arrive as bytes, so that one `poll` waits for everything."""
    read, write = _pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in KNOCKS:
        signal.signal(number, lambda *_: None)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    poller.register(read, select.POLLIN)
    return read
