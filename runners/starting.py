"""How a worker has a shim started: by its forker (see `runners.forker`), or by itself where that does not answer.

A request to the forker carries one end of a pipe, which only the forker and then the shim hold. When nobody holds it
any more and no word came through it, there is no shim, nor will there be one: it is safe to start one in another way.
Were there two all the same, one of them finds that the launch is taken.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runners import naming, processes
from runners.forker import SOCKET
from runners.shim import WORD

START_SECONDS = 20.0  # a shim takes some milliseconds; a machine out of breath may take its time
FORK_SECONDS = 10.0  # without a word: whoever was to fork it hangs
ENOUGH = 3  # forkers in a row that came to nothing: on another kernel say, or without ctypes

SHIM = str(Path(__file__).with_name("shim.py"))
_FORKER = str(Path(__file__).with_name("forker.py"))
_LONGEST_WORD = 100  # bytes
_AS_USUAL = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM)


class Forker:
    """The forker of this process, from the first request on: one at a time, and another one when it is gone.

    Any thread may ask. A process that is forked from this one begins without.
    """

    def __init__(self, *, patience: float = FORK_SECONDS) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._in_vain = 0  # started since one has done its work
        self.pid = 0

    def ask(self, folder: Path, word: int) -> int:
        """Ask for a shim whose word goes to this descriptor; the pid of whom was asked. Raises OSError."""
        with self._lock:
            if self._socket is not None:
                try:
                    return self._send(self._socket, folder, word)
                except OSError:  # it has died since
                    self._end()
            if self._in_vain >= ENOUGH:
                raise OSError("Nothing can be forked here.")
            self._in_vain += 1
            self.pid, self._socket = _spawn_forker()
            self._socket.settimeout(self.patience)  # it may hang, and so many may have asked before
            try:
                return self._send(self._socket, folder, word)
            except OSError:
                self._end()
                raise

    def _send(self, to: socket.socket, folder: Path, word: int) -> int:
        socket.send_fds(to, [os.fsencode(folder)], [word])
        return self.pid

    def has_served(self) -> None:
        self._in_vain = 0

    def end(self, pid: int = 0) -> None:
        """End it, if it is the one with this pid or whoever it is. The shims go on."""
        with self._lock:
            if pid in (0, self.pid):
                self._end()

    def forget(self) -> None:
        """It is another process's."""
        if self._socket is not None:
            self._socket.close()
        self._lock, self._socket, self.pid = threading.Lock(), None, 0

    def _end(self) -> None:
        if self._socket is None:
            return
        self._socket.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it holds nothing; its end is not to be waited for
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self._socket, self.pid = None, 0


class _Children:
    """The shims that this process started itself: ours to reap, or they would stay as zombies."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)

    def reap(self) -> None:
        if not self._pids:
            return
        with self._lock:
            self._pids = {pid for pid in self._pids if not _reaped(pid)}

    def forget(self) -> None:
        """They are another process's."""
        self._pids, self._lock = set(), threading.Lock()


forker = Forker()
children = _Children()
os.register_at_fork(after_in_child=forker.forget)
os.register_at_fork(after_in_child=children.forget)


def start_shim(folder: Path) -> bytes:
    """The shim's word; empty where it gave none, in its time or before its end. Raises OSError."""
    for begin in (_fork, _spawn):
        told, tell = os.pipe()
        try:
            try:
                give_up = begin(folder, tell)
            finally:
                os.close(tell)
            word = _first_word(told, forker.patience, give_up)
        finally:
            os.close(told)
        if word and begin is _fork:
            forker.has_served()
        if word or not (folder / "launch.json").exists():
            return word
    return b""


def _fork(folder: Path, tell: int) -> Callable[[], None]:
    """What is to be done when no word comes."""
    try:
        asked = forker.ask(folder, tell)
    except OSError:  # it is gone, or can't be started
        return _nothing
    return lambda: forker.end(asked)


def _spawn(folder: Path, tell: int) -> Callable[[], None]:
    """Start it with nothing of ours: environment, descriptors, blocked or ignored signals."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", SHIM, str(folder)],
        {processes.MARKER: str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "shim.log"), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, tell, WORD),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_AS_USUAL,
    )
    children.add(pid)
    return _nothing


def _spawn_forker() -> tuple[int, socket.socket]:
    """Its pid and our end of its socket, whose close is its end. It has nothing of ours either."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", _FORKER, naming.PADDING],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), SOCKET),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_AS_USUAL,
            )
        except OSError:
            ours.close()
            raise
    return pid, ours


def _first_word(told: int, patience: float, give_up: Callable[[], None]) -> bytes:
    """What comes through the pipe until its end. Without a word in its patience it gives up, and goes on waiting."""
    heard = select.poll()
    heard.register(told, select.POLLIN)
    began = time.monotonic()
    for until, then in ((began + patience, give_up), (began + START_SECONDS, _nothing)):
        if heard.poll(max(0.0, until - time.monotonic()) * 1000):
            return os.read(told, _LONGEST_WORD)
        then()
    return b""


def _nothing() -> None: ...


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
