"""What runners share whose sessions each stand alone: there is no conversation to keep, or to go on with."""

from __future__ import annotations

from runners.base import Ending, SessionSpec


def conversation_problems(spec: SessionSpec) -> dict[str, str]:
    """Field → sentence. A session that is to go on with a conversation is refused, and not begun without it."""
    if spec.conversation is None:
        return {}
    return {"conversation": "This runner keeps no conversation to go on with. Begin afresh each time."}


def remarks(ending: Ending) -> str:
    """What is worth a sentence though all is well; empty when nothing is."""
    return "It printed more than is kept." if ending.truncated else ""
