"""Standard output and error that never end a command: their reader may leave, or know fewer characters."""

from __future__ import annotations

import os
from typing import TextIO, cast

from django.core.management.base import OutputWrapper

# Control characters but for newline and tab, and those that turn the direction of text: an agent's words must not
# steer a terminal.
_UNSAFE = dict.fromkeys(
    [*(set(range(0x20)) - {0x09, 0x0A}), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)


def printable(text: str) -> str:
    """`text` without what would steer a terminal."""
    return text.translate(_UNSAFE)


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


class Stream:
    """A command's output, written as it is given: no newline is added, and a reader that left is no error."""

    def __init__(self, wrapper: OutputWrapper) -> None:
        self._out = cast(TextIO, wrapper._out)  # itself adds newlines and colour

    def write(self, text: str) -> int:
        try:
            self._out.write(text)
        except UnicodeEncodeError:
            encoding = self.encoding
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._mute()
        return len(text)

    def flush(self) -> None:
        try:
            self._out.flush()
        except BrokenPipeError:
            self._mute()

    def isatty(self) -> bool:
        return self._out.isatty()

    def fileno(self) -> int:
        return self._out.fileno()

    @property
    def encoding(self) -> str:
        return getattr(self._out, "encoding", None) or "utf-8"

    def _mute(self) -> None:
        """Nobody reads any more. What Python flushes when it ends goes nowhere, too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._out.fileno())
        os.close(nowhere)
