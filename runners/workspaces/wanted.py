"""Whether what is being prepared is wanted still.

Fetching and checking out may take minutes. Whoever waits for them says by `as_long_as` how to ask, and they ask now and
then. It holds for the thread that said so, and for nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from runners.base import Unwanted

ASK_EVERY = 0.5
"""Seconds between two questions."""

_is_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("is_wanted", default=None)


@contextmanager
def as_long_as(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Fetch and check out in this block as long as `is_wanted` says so. Else they end, and raise Unwanted."""
    before = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(before)


def check_wanted(action: str) -> None:
    """Raises Unwanted. `action` begins the sentence ("Fetching acme")."""
    is_wanted = _is_wanted.get()
    if is_wanted is not None and not is_wanted():
        raise Unwanted(f"{action}: ended, for nobody wants it any more.")
