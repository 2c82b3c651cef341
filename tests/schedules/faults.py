"""A database that fails, as far as a test wants it to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection


@contextmanager
def failing(*beginnings: str, times: int = 1_000_000, error: BaseException | None = None) -> Iterator[list[str]]:
    """Statements of this thread that begin so fail, the first `times` of them. Yields those that did."""
    failed: list[str] = []

    def away(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        if sql.startswith(beginnings) and len(failed) < times:
            failed.append(sql)
            raise error or OperationalError("the connection is lost")
        return execute(sql, *given)

    with connection.execute_wrapper(away):
        yield failed


@contextmanager
def after(beginning: str, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` after each statement of this thread that begins so."""

    def watched(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        answer = execute(sql, *given)
        if sql.startswith(beginning):
            act()
        return answer

    with connection.execute_wrapper(watched):
        yield
