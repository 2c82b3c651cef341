"""When what a session has come to is kept while it runs."""

import threading
from datetime import timedelta

import pytest
from pytest_django import Settings

from runners import WorkspaceError
from schedules.parking import Parking

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _every(settings: Settings) -> None:
    settings.ROTA_KEEP_CONVERSATION_EVERY, settings.ROTA_KEEP_WORK_EVERY = timedelta(minutes=1), timedelta(minutes=5)


class Kept:
    """What was kept, in order."""

    def __init__(self) -> None:
        self.what: list[str] = []
        self.at = 0.0
        self.parking = Parking.of(
            conversation=lambda: self.what.append("said"), work=lambda: self.what.append("done"), at=0.0
        )

    def look(self, at: float) -> list[str]:
        self.what.clear()
        self.parking.look(at)
        self.parking.end()
        for duty in self.parking._duties:
            duty.last, duty.took = (at if duty.took else duty.last), 0.0
        return list(self.what)


def test_a_short_session_keeps_nothing() -> None:
    kept = Kept()
    assert [kept.look(at) for at in range(60)] == [[]] * 60


def test_what_was_said_is_kept_once_a_minute_and_what_was_done_every_five() -> None:
    kept = Kept()
    assert kept.look(61) == ["said"]
    assert kept.look(100) == []
    assert kept.look(122) == ["said"]
    assert kept.look(301) == ["done", "said"]
    assert kept.look(362) == ["said"]


def test_nobody_waits_for_it_and_it_is_kept_one_at_a_time() -> None:
    over, begun = threading.Event(), []

    def work() -> None:
        begun.append(1)
        over.wait(timeout=30)

    parking = Parking.of(conversation=lambda: None, work=work, at=0.0)
    for at in (301, 700, 5000):
        parking.look(at)
    over.set()
    parking.end()
    assert len(begun) == 1


def test_the_end_of_a_session_does_not_wait_for_long() -> None:
    over = threading.Event()
    parking = Parking.of(conversation=lambda: None, work=lambda: over.wait(timeout=30), at=0.0)
    parking.look(301)
    parking.end(within=0.01)
    assert parking._thread
    assert parking._thread.is_alive()
    over.set()
    parking.end()
    assert not parking._thread.is_alive()


def test_what_fails_is_tried_again() -> None:
    tried = []

    def work() -> None:
        tried.append(1)
        raise WorkspaceError("Too slow.") if len(tried) == 1 else ValueError("A bug.")

    parking = Parking.of(conversation=lambda: None, work=work, at=0.0)
    for at in (301.0, 1e9, 2e9):
        parking.look(at)
        parking.end()
    assert len(tried) == 3
