"""The sessions that a worker has in hand, and what is wanted of each while it is at work on it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from schedules.following import Wish


class Hands:
    """Of one process. Any thread may ask."""

    def __init__(self) -> None:
        self._wishes: dict[int, Wish] = {}
        self._lock = threading.Lock()

    def __contains__(self, session_id: int) -> bool:
        return session_id in self._wishes

    def take(self, session_id: int) -> bool:
        """Take a session in hand, before it is claimed. False: it is, and a message came twice."""
        with self._lock:
            if session_id in self._wishes:
                return False
            self._wishes[session_id] = ""
            return True

    def let_go(self, session_id: int) -> None:
        with self._lock:
            del self._wishes[session_id]

    def wish_for(self, session_id: int) -> Wish:
        return self._wishes.get(session_id, "")

    def cancel(self, session_id: int) -> bool:
        """Somebody wants its end. False: it is not in hand."""
        with self._lock:
            if session_id not in self._wishes:
                return False
            self._wishes[session_id] = self._wishes[session_id] or "cancelled"
            return True

    def give_away(self, gone: Iterable[int]) -> None:
        """Those of them that are in hand are somebody else's, or over."""
        with self._lock:
            for session_id in self._wishes.keys() & gone:
                self._wishes[session_id] = "taken"

    def lose_all(self) -> list[int]:
        """The lease can't be renewed: all are to be ended. Returns those of whom that was not known yet."""
        with self._lock:
            lost = [session_id for session_id, wish in self._wishes.items() if wish not in ("lost", "taken")]
            self._wishes.update(dict.fromkeys(lost, "lost"))
        return lost
