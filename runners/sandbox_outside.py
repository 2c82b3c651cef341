"""The keeper of a sandbox: starts bubblewrap, is the way out where there is one, and ends as the program ended.

    python -I -S sandbox_outside.py [allowed host ...] -- bwrap [option ...]

What bubblewrap starts is `sandbox_inside`, which finds a socket to us at the descriptor CONTROL. TERM is ignored here
and by bubblewrap: the shim sends it to each process of the session, and the sandbox must stand until the program has
heeded it. KILL ends all: bubblewrap dies with its keeper, and a sandbox with bubblewrap. Standard library only.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL = 3


def main(arguments: Sequence[str]) -> int:
    """How the program ended: its exit code; below 0 the signal that ended it."""
    dashes = list(arguments).index("--")
    hosts, command = arguments[:dashes], arguments[dashes + 1 :]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.posix_spawn(
        command[0],
        list(command),
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL)],
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    theirs.close()
    if hosts:
        _open_way_out(ours, hosts)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = _last_word(ours)
    return int(told) if told.lstrip(b"-").isdigit() else status


def _open_way_out(control: socket.socket, hosts: Sequence[str]) -> None:
    """Take over the socket that listens inside, and answer on it. No socket: bubblewrap has failed and said why."""
    _, descriptors, _, _ = socket.recv_fds(control, 16, 1)
    if not descriptors:
        return
    import threading
    from types import ModuleType

    package = sys.modules["runners"] = ModuleType("runners")  # without its door, which would import all of it
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    from runners.egress import Egress, tell

    egress = Egress(hosts, tell=tell)
    threading.Thread(target=egress.serve, args=(socket.socket(fileno=descriptors[0]),), daemon=True).start()


def _last_word(control: socket.socket) -> bytes:
    try:
        return control.recv(16, socket.MSG_DONTWAIT)
    except OSError:
        return b""


def end(code: int) -> None:
    """End as the program did, so that the shim sees it. Leaves no core dump."""
    sys.stderr.flush()
    if code >= 0:
        os._exit(code)  # the threads of the way out need no farewell
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
