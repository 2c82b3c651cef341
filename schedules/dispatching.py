"""Who admits, and who gets what was admitted: a slot that becomes free just now, or the broker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Dispatcher:
    """One of a process. `admit` marks what may start now and returns its ids; `publish` hands ids to the broker.

    One thread admits at a time, and looks once more for those that came meanwhile: sessions that end together are
    followed by one admission. What is admitted is first for the slots of this process that ask for their next session,
    or are about to: they need no message.
    """

    def __init__(self, admit: Callable[[], list[int]], publish: Callable[[list[int]], int]) -> None:
        self._admit = admit
        self._publish = publish
        self._wanted = threading.Event()
        self._turn = threading.Lock()
        self._slots = 0  # that ask, or are about to
        self._counting = threading.Lock()
        self._ready: deque[int] = deque()  # admitted, for them

    def dispatch(self) -> int:
        """Admit what may start and hand it out. Returns how many; 0 where another thread is at it and looks again."""
        self._wanted.set()
        dispatched = 0
        while self._wanted.is_set() and self._turn.acquire(blocking=False):
            try:
                dispatched += self._round()
            finally:
                self._turn.release()
        return dispatched

    def take(self) -> int | None:
        """For a slot that was counted: its next session. None: a message will come."""
        self._wanted.set()
        with self._turn:
            try:
                if self._wanted.is_set():
                    self._round()
                return self._ready.popleft() if self._ready else None
            finally:
                self.count(-1)

    def look_again(self, taken: int | None) -> None:
        """Where somebody wanted it meanwhile and found the turn taken. `taken` is nobody's again should that fail."""
        try:
            if self._wanted.is_set():
                self.dispatch()
        except BaseException:
            if taken is not None:
                self._ready.appendleft(taken)
            raise

    def count(self, one: int) -> None:
        """A slot more, or less, that is about to ask."""
        with self._counting:
            self._slots += one

    def _round(self) -> int:
        """Admit for all who asked until now. What is more than there are slots to take it goes to the broker."""
        self._wanted.clear()
        admitted = self._admit()
        self._ready.extend(admitted)
        surplus = [self._ready.pop() for _ in range(len(self._ready) - self._slots)][::-1]
        return len(admitted) - len(surplus) + self._publish(surplus)


class Slot:
    """One place of this process in which a session runs, and then another one."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._is_counted = False

    def expect(self) -> None:
        """Its session is about to be over: what is admitted from now on may be for this slot."""
        if not self._is_counted:
            self._is_counted = True
            self._dispatcher.count(1)

    def take(self) -> int | None:
        """The next session, to be claimed here. None: a message will come."""
        self.expect()
        self._is_counted = False
        taken = self._dispatcher.take()
        self._dispatcher.look_again(taken)
        return taken

    def leave(self) -> None:
        """It asks no more. What was kept for it goes to somebody else, and what may start now is admitted."""
        if self._is_counted:
            self._is_counted = False
            self._dispatcher.count(-1)
        self._dispatcher.dispatch()
