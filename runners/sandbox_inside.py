"""The first process of a sandbox, after bubblewrap's own: starts the program and tells how it ended.

    python -I -S sandbox_inside.py CONTROL PORT -- program [argument ...]

CONTROL is a socket to the keeper outside. bubblewrap makes of a signal an exit code, as a shell does; the keeper is
told which it was. With a PORT, a socket that listens there on loopback is handed to the keeper, who answers on it from
outside: the one way out of a sandbox without a network. When the keeper is gone, so is the sandbox: bubblewrap sees to
that as well, but only from a moment after its start. Standard library only, and it imports little.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE = 0.5  # seconds for what the program left behind to end by itself: the sandbox ends with us

# Python ignores the first two, and the keeper the third, which is meant for the program.
_AS_USUAL = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    control, port, _, *command = arguments
    os.set_inheritable(int(control), False)
    with socket.socket(fileno=int(control)) as keeper:
        if port != "0":
            with socket.create_server(("127.0.0.1", int(port)), backlog=64) as listening:
                socket.send_fds(keeper, [b"listening"], [listening.fileno()])
        code = _run(command, keeper)
        with contextlib.suppress(OSError):  # who listens no more
            keeper.send(str(code).encode())
    return 0 if code < 0 else code


def _run(command: Sequence[str], keeper: socket.socket) -> int:
    """The exit code; below 0 the signal that ended it."""
    bell, poller = _hang_bell(), select.poll()
    poller.register(keeper, 0)  # of its end alone
    if poller.poll(0):
        return -signal.SIGKILL
    poller.register(bell, select.POLLIN)
    try:
        pid = os.posix_spawnp(command[0], list(command), os.environ, setsigdef=_AS_USUAL)
    except OSError as error:
        print(f"{command[0]} could not be started in the sandbox: {error.strerror}.", file=sys.stderr)
        return 127
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if any(descriptor != bell for descriptor, _ in poller.poll()):
            os.kill(-1, signal.SIGKILL)  # all in the sandbox but us and the first process, which ends after us
            return -signal.SIGKILL
        os.read(bell, 512)
    until = time.monotonic() + SETTLE
    while time.monotonic() < until and not _alone():
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(status)


def _hang_bell() -> int:
    """A descriptor on which a child's end is a byte, so that one `poll` waits for it and for the keeper's."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def _alone() -> bool:
    """Nobody is left but us and bubblewrap's own process, which is the first."""
    return {name for name in os.listdir("/proc") if name.isdigit()} <= {"1", str(os.getpid())}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
