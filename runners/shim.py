"""The shim: a small process that owns one session's process, whatever becomes of the worker.

    python -I -S runners/shim.py FOLDER

It reads FOLDER/launch.json and removes it at once, for it holds secrets; starts the program;
records what it prints in FOLDER/output.log (see `runners.recording`); holds the limits and ends the
whole tree (see `runners.custody`); at last it writes FOLDER/ending.json. FOLDER/process.json says
who runs. A file FOLDER/stop with a reason in it ends the session: SIGUSR1 makes the shim look at
once, SIGTERM means `shutdown`. The JSON files appear whole or not at all.

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

from runners import custody, light, privacy, spawning

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import Any

RESERVE_BYTES = 8192  # laid by for ending.json, so that it can be written on a full disk
DISK_FULL = 28  # the exit code where there is no room to begin, nor to say so


class Folder:
    """The session's folder, as the shim uses it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reserve = -1

    def __truediv__(self, name: str) -> str:
        return f"{self.path}/{name}"

    def take_launch(self) -> Any:
        """What to start. The file holds secrets and is gone when this returns."""
        with open(self / "launch.json", encoding="utf-8") as file:
            launch = light.loads(file.read())
        os.unlink(self / "launch.json")
        return launch

    def stop_reason(self) -> str:
        """Why somebody wants the session to end; empty when nobody does."""
        try:
            with open(self / "stop", encoding="utf-8", errors="replace") as file:
                reason = file.read(64).strip()
        except OSError:
            return ""
        return reason if reason.isidentifier() else "cancelled"

    def write(self, name: str, content: dict[str, Any]) -> None:
        with open(self / f"{name}.part", "w", encoding="utf-8") as file:
            file.write(light.dumps(content))
        os.rename(self / f"{name}.part", self / name)

    def reserve(self) -> None:
        """Lay by the space that the ending will take. Without it there would be no telling how the session ended."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._reserve = os.open(self / "ending.json.part", flags, 0o600)
        left = RESERVE_BYTES
        while left:  # the last bytes of a disk are written before it is full
            left -= os.write(self._reserve, b" " * left)

    def write_ending(self, content: dict[str, Any]) -> None:
        data = light.dumps(content).encode()
        os.pwrite(self._reserve, data, 0)
        os.ftruncate(self._reserve, len(data))
        os.rename(self / "ending.json.part", self / "ending.json")


def main(path: str) -> None:
    privacy.make_private()  # the launch is in its memory, secrets and all
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # a worker may have leaked some
    folder = Folder(path)
    spawning.become_subreaper()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = _prepared(folder)
    try:
        held.run()
    except BaseException:
        held.end_tree()  # a fault of ours must not leave the program to itself
        raise
    folder.write_ending(held.ending())


def _prepared(folder: Folder) -> custody.Custody:
    """All that takes room on the disk, before anything is started. Without it the shim ends with a code of its own."""
    try:
        launch = folder.take_launch()
        folder.reserve()
        return custody.Custody(folder, launch)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(DISK_FULL)
        raise


if __name__ == "__main__":
    main(sys.argv[1])
