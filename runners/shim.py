"""The shim: a small process that owns one session's process, whatever becomes of the worker.

    a child of `runners.forker`, or    python -I -S runners/shim.py FOLDER

It reads FOLDER/launch.json and removes it at once, for it holds secrets; starts the program;
records what it prints in FOLDER/output.log (see `runners.recording`); holds the limits and ends the
whole tree (see `runners.custody`); at last it writes FOLDER/ending.json. FOLDER/process.json says
who runs. A file FOLDER/stop with a reason in it ends the session: SIGUSR1 makes the shim look at
once, SIGTERM means `shutdown`. The JSON files appear whole or not at all.

Its command line names it and FOLDER before it takes the launch, and only one can take that: so whoever ends a session
removes the launch, and then finds a shim by its command line or knows that there will be none.

Its *word* goes to the descriptor that it was started with, once: who it is, as soon as the program runs or the session
is over; or that the disk is full. When it dies without one, whoever waits sees the end of that pipe.

Standard library only, and little of it: every session pays for this process. What is started by
its path is compiled each time, so the most of it is elsewhere.
"""

from __future__ import annotations

import errno
import os
import resource
import sys

if __name__ == "__main__":
    # Reach our siblings without the package's door, which imports more than a shim may weigh.
    _package = type(sys)("runners")
    _package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules["runners"] = _package

from runners import custody, light, naming, privacy, spawning

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import Any

WORD = 3  # the descriptor for its word
RESERVE_BYTES = 8192  # laid by for ending.json, so that it can be written on a full disk
DISK_FULL = b"disk full"  # its word where there is no room to begin


class Folder:
    """The session's folder, as the shim uses it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reserve = -1
        self._has_told = False

    def __truediv__(self, name: str) -> str:
        return f"{self.path}/{name}"

    def open_log(self) -> None:
        """Where its own complaints go."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(self / "shim.log", flags, 0o600)
        os.dup2(log, 2)
        os.close(log)

    def take_launch(self) -> Any:
        """What to start. The file holds secrets and is gone when this returns.

        Raises FileNotFoundError where somebody else has taken it, or taken it away.
        """
        launch = light.loads(light.read(self / "launch.json"))
        os.unlink(self / "launch.json")
        return launch

    def stop_reason(self) -> str:
        """Why somebody wants the session to end; empty when nobody does."""
        try:
            reason = light.read(self / "stop")[:64].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return reason if reason.isidentifier() else "cancelled"

    def write(self, name: str, content: dict[str, Any]) -> None:
        part = os.open(self / f"{name}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            light.write(part, light.dumps(content).encode())
        finally:
            os.close(part)
        os.rename(self / f"{name}.part", self / name)

    def reserve(self) -> None:
        """Lay by the space that the ending will take. Without it there would be no telling how the session ended."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._reserve = os.open(self / "ending.json.part", flags, 0o600)
        light.write(self._reserve, b" " * RESERVE_BYTES)

    def write_ending(self, content: dict[str, Any]) -> None:
        data = light.dumps(content).encode()
        os.pwrite(self._reserve, data, 0)
        os.ftruncate(self._reserve, len(data))
        os.rename(self / "ending.json.part", self / "ending.json")

    def tell(self, word: bytes) -> None:
        """Give its word to whoever waits for it, if anybody does. The first one counts."""
        if self._has_told:
            return
        self._has_told = True
        with light.suppress(OSError):
            os.write(WORD, word)
        os.close(WORD)


def main(path: str) -> None:
    """Hold the session of this folder. The process is private by now: it will have the launch, secrets and all."""
    close_beyond(WORD)  # a worker may have leaked some
    os.set_inheritable(WORD, False)
    naming.rename_thread(f"shim {os.path.basename(path)}")
    folder = Folder(path)
    spawning.become_subreaper()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        held = _prepared(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder.tell(DISK_FULL)
        return
    try:
        held.run()
    except BaseException:
        held.end_tree()  # a fault of ours must not leave the program to itself
        raise
    folder.write_ending(held.ending())
    folder.tell(held.name)


def _prepared(folder: Folder) -> custody.Custody:
    """All that takes room on the disk, before anything is started."""
    folder.open_log()
    launch = folder.take_launch()
    folder.reserve()
    return custody.Custody(folder, launch)


def close_beyond(last: int) -> None:
    """Close all higher descriptors. Those that are open, and not all that the limit allows: it may say 10^9, and not
    every Python has a system call for that; or it was lowered since.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > last:
            with light.suppress(OSError):  # the one that listed them
                os.close(int(name))


if __name__ == "__main__":
    privacy.make_private()
    main(sys.argv[1])
