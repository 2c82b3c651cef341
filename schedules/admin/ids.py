"""Ids in URLs, which anybody may type."""

from __future__ import annotations

_LONGEST = 18  # digits that a database's integer holds


def row_id(text: str) -> int:
    """The id that the text is; 0, which no row has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST else 0
