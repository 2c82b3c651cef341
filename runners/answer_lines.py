"""How many answers of its model an agent program has printed so far: what a cap on turns counts.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

from runners.light import loads

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import Any


class AnswerLines:
    """Counts answers among JSON lines by `rule`, the fields of `runners.base.AnswerRule`; without one it counts none.

    An answer may come in several lines, which share its id. A line that no rule can be held against counts nothing.
    """

    def __init__(self, rule: Any = None) -> None:
        self._rule = rule or {}
        self._ids: set[str] = set()
        self.sign = b'"%s"' % self._rule["type"].encode() if rule else b""
        """Stands in every line of an answer: where it is missing nobody need look closer."""

    @property
    def count(self) -> int:
        return len(self._ids)

    def see(self, line: bytes) -> None:
        """Take one line that is whole."""
        if not self.sign or self.sign not in line or line[:1] != b"{":
            return
        try:
            content = loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict) or content.get("type") != self._rule["type"]:
            return
        if any(_at(content, path) for path in self._rule["without"]):
            return
        if any(_at(content, path) == value for path, value in self._rule["but"].items()):
            return
        self._ids.add(str(_at(content, self._rule["id"])))


def _at(content: Any, path: str) -> Any:
    """What stands at `message.id`, or None."""
    for key in path.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content
