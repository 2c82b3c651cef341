"""What the times of files can be relied on for: that depends on the file system, so it is tried out."""

from __future__ import annotations

import mmap
import tempfile
import time
from pathlib import Path

_COARSE = 5  # CLOCK_REALTIME_COARSE of Linux, by which it stamps files; Python has no name for it
_LONGEST = 100  # milliseconds that one waits for the clock to move on; a tick of it is 1 to 10

_tried: dict[int, bool] = {}  # device → what came of it


def let_time_pass(since_ns: int) -> None:
    """Return when the clock of the file system has moved on from an instant: a later change has a later time."""
    for _ in range(_LONGEST):
        if time.clock_gettime_ns(_COARSE) > since_ns:
            return
        time.sleep(0.001)


def tells_of_every_write(folder: Path) -> bool:
    """Whether no write on the folder's file system leaves a file's change time (ctime) as it was.

    On tmpfs one does: through a mapping, after the page was read through it. Tried once per file system and process.
    """
    device = folder.stat().st_dev
    if device not in _tried:
        _tried[device] = _try(folder)
    return _tried[device]


def _try(folder: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".times-") as file:
        file.write(bytes(mmap.PAGESIZE))
        file.flush()
        path = Path(file.name)
        before = path.stat().st_ctime_ns
        let_time_pass(before)
        with mmap.mmap(file.fileno(), 0) as view:
            view[1] = view[0] + 1
        return path.stat().st_ctime_ns > before
