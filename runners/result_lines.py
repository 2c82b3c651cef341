"""Which of the lines that a program prints is its result.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

from runners.light import loads


class ResultLine:
    """Knows a result line by its first bytes (`prefix`), or by being a JSON object of a `kind`.

    With neither there is no result line. The order of a JSON object's keys is not relied upon, and
    what a tool has printed and is quoted deeper in an object is not taken for the program's own.
    """

    def __init__(self, *, prefix: str = "", kind: str = "") -> None:
        self._prefix = prefix.encode()
        self._kind = kind
        self.sign = self._prefix or (b'"%s"' % kind.encode() if kind else b"")
        """Stands in every result line: where it is missing nobody need look closer."""

    def may_begin(self, begin: bytes) -> bool:
        """Whether a line with these first bytes can become a result line."""
        if self._prefix:
            return begin[: len(self._prefix)] == self._prefix[: len(begin)]
        return bool(self.sign) and begin[:1] in (b"", b"{")

    def is_result(self, line: bytes) -> bool:
        if not self.sign or not self.may_begin(line) or self.sign not in line:
            return False
        if self._prefix:
            return line.startswith(self._prefix)
        try:
            content = loads(line)
        except (ValueError, RecursionError):
            return False
        return isinstance(content, dict) and content.get("type") == self._kind
