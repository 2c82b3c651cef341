"""Text that a program or an agent wrote, made safe to look at: nothing in it moves, hides or colours anything."""

from __future__ import annotations

import re

_CSI = r"\[[0-?]*[ -/]*[@-~]"
_STRING = r"[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?"
_ANSI = re.compile(rf"\x1b(?:{_CSI}|{_STRING}|[ -/]*[0-~])?")
# Marks that reorder or hide what stands beside them: a file name could read otherwise than it is.
_INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CONTROL = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: "\u2421",
    **{code: f"<{code:02X}>" for code in range(0x80, 0xA0)},
}


def visible(text: str) -> str:
    """The text without terminal escapes, with every other control or direction mark shown as a sign of its own."""
    plain = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _INVISIBLE.sub(lambda mark: f"<U+{ord(mark[0]):04X}>", plain.translate(_CONTROL))


def shorten(text: str, most: int) -> str:
    """The text in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
