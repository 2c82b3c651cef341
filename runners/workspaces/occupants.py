"""Who still has a folder in use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def occupants(folder: Path) -> list[int]:
    """The processes that work in a folder, or have a file of it open or mapped, as far as this user may see them."""
    top = os.path.realpath(folder)
    ours = os.getpid()
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if int(entry.name) != ours and any(path == top or path.startswith(f"{top}/") for path in _in_use(entry))
    ]


def _in_use(process: Path) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            yield os.readlink(process / name)  # noqa: PTH115 - text is what is compared
    with contextlib.suppress(OSError):
        for entry in os.scandir(process / "fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)  # noqa: PTH115
    with contextlib.suppress(OSError):
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            path = line[line.find("/") :] if "/" in line else ""
            if path:
                yield path
