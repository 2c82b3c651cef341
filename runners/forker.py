"""The forker: a process that has imported all that a shim needs, and forks one for each session that a worker starts.

    python -I -S runners/forker.py ----…

A Python that starts costs 14 ms, a fork of one a tenth of that, and what it shares takes no memory twice. It is a child
of its worker's and ends with it: the shims do not. A request is one message on the socket that it was started with: the
path of a session's folder, and a pipe for the shim's word (see `runners.shim`). It answers nothing; whoever closes the
pipe without a word, by dying say, has started nothing.

It reads no launch: what a shim inherits of its memory holds no session's secrets. Standard library only, and little of
it.
"""

from __future__ import annotations

import gc
import os
import sys

if __name__ == "__main__":
    # Reach our siblings without the package's door, which imports more than a shim may weigh.
    _package = type(sys)("runners")
    _package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules["runners"] = _package

import _socket

from runners import naming, privacy, processes, shim
from runners.light import signal, suppress

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = 3  # the descriptor that it finds its worker at; in a shim it is that of its word
LONGEST = 8192  # bytes of a request


def main() -> None:
    """Until the worker is gone."""
    shim.close_beyond(SOCKET)
    if not naming.rename([*sys.orig_argv[:3], sys.argv[0]]):
        return  # its shims could not be told from each other
    naming.rename_thread("rota-forker")
    privacy.make_private()
    processes.boot_id()
    signal.signal(signal.SIGCHLD, _reap)
    worker = _socket.socket(fileno=SOCKET)
    gc.collect()
    gc.freeze()  # so that no collection writes to the pages that all share
    while True:
        request, attached, _, _ = worker.recvmsg(LONGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        if not request:
            return
        for _, _, descriptor in attached:
            _serve(os.fsdecode(request), int.from_bytes(descriptor, sys.byteorder))


def _serve(folder: str, word: int) -> None:
    with suppress(OSError):  # the worker will see that nobody holds its pipe any more
        if os.fork() == 0:
            _become_shim(folder, word)
    os.close(word)


def _become_shim(folder: str, word: int) -> NoReturn:
    """First of all it takes the name by which it is found and ended: it has begun nothing before."""
    code = 1
    try:
        if naming.rename([*sys.orig_argv[:3], f"{os.path.dirname(sys.argv[0])}/shim.py", folder]):
            os.setsid()
            os.dup2(word, shim.WORD, inheritable=False)
            shim.main(folder)
            code = 0
    except BaseException:  # noqa: BLE001 - or there would be two forkers
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
