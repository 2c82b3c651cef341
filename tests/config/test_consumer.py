"""A worker's way back to its broker."""

from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from config.celery import Drain, app
from config.consumer import _ensure_soon


def test_it_is_the_one_of_the_workers() -> None:
    assert app.conf.worker_consumer == "config.consumer:Consumer"


def test_it_looks_for_its_broker_every_two_seconds_and_tells_now_and_then() -> None:
    waits: list[float] = []
    told: list[float] = []

    def ensure(tell: Callable[[Exception, float], None], most: int | None, **options: Any) -> str:
        wait = options["interval_start"]
        for _ in range(61):
            waits.append(wait)
            tell(OperationalError("away"), wait)
            wait = min(wait + options["interval_step"], options["interval_max"])
        return "connected"

    assert _ensure_soon(ensure, lambda error, wait: told.append(wait), None) == "connected"
    assert (waits[0], max(waits)) == (0.5, 2.0)
    assert len(told) == 3


def test_it_finds_a_broker_that_is_there(broker: str) -> None:
    with Connection(broker) as connection:
        _ensure_soon(connection.ensure_connection, lambda error, wait: None, 1)
        assert connection.connected


def test_it_gives_up_where_it_is_told_to(no_broker: None) -> None:
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        _ensure_soon(connection.ensure_connection, lambda error, wait: None, 1)


def test_the_worker_of_celery_takes_the_option_drain() -> None:
    assert any("--drain" in option.opts for option in app.user_options["worker"])
    assert Drain in app.steps["worker"]
