"""`rota`: stop everything, lift the stop, freeze windows."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules.models import Freeze, Session, Stop
from tests.schedules.factories import make_schedule, make_session
from tests.schedules.management.running import Ended, run

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)


def rota(*arguments: str) -> Ended:
    return run("rota", *arguments)


def test_everything_is_stopped_told_and_lifted() -> None:
    session = make_session(now=NOW, status="running")

    stopped = rota("stop", "--reason", "bad model")

    assert (stopped.code, stopped.out) == (0, "")
    assert "What runs goes on" in stopped.err
    session.refresh_from_db()
    assert session.cancel_requested_at is None
    told = rota("status")
    assert told.code == 0
    assert "until somebody lifts it: bad model." in told.out
    again = rota("stop", "--reason", "me too")
    assert again.code == 4
    assert "bad model" in again.err
    assert "Lifted" in rota("lift", "--reason", "mended").err
    assert Stop.objects.get().lift_reason == "mended"
    assert rota("lift").err == "Nothing was stopped.\n"
    assert rota("status").out == "Nothing is stopped.\n"


def test_what_runs_is_cancelled_where_that_is_asked_for() -> None:
    session = make_session(now=NOW, status="running")
    assert "1 sessions were asked to end" in rota("stop", "--reason", "x", "--cancel").err
    assert Session.objects.get(pk=session.pk).cancel_requested_at is not None


def test_a_freeze_window_of_some_schedules_and_its_end() -> None:
    make_schedule("nightly", now=NOW)

    made = rota("freeze", "--until", "2999-01-01T00:00Z", "--reason", "release", "--schedule", "nightly")

    freeze = Freeze.objects.get()
    assert (made.code, [schedule.name for schedule in freeze.schedules.all()]) == (0, ["nightly"])
    assert f"thaw {freeze.pk} ends it" in made.err
    assert f"{freeze.pk}  Frozen by" in rota("status").out
    assert "(nightly)" in rota("status").out
    assert rota("thaw", str(freeze.pk)).code == 0
    assert rota("thaw", str(freeze.pk)).code == 3
    assert not Freeze.objects.in_force(datetime.now(UTC) + timedelta(minutes=1)).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--until", "tomorrow"), 2, "is not a time"),
        (("--until", "2000-01-01"), 2, "The end must be after the start."),
        (("--until", "2999-01-01", "--schedule", "nihgtly"), 3, "Did you mean nightly?"),
    ],
)
def test_what_is_no_window_is_refused(arguments: tuple[str, ...], code: int, words: str) -> None:
    make_schedule("nightly", now=NOW)
    ended = rota("freeze", "--reason", "x", *arguments)
    assert ended.code == code
    assert words in ended.err
    assert not Freeze.objects.exists()


def test_the_state_as_json() -> None:
    make_schedule(now=NOW, status="broken")
    rota("freeze", "--from", "2998-01-01T00:00Z", "--until", "2999-01-01T00:00Z", "--reason", "release")
    rota("stop", "--reason", "bad model")

    told = rota("status", "--json").object

    assert told["stop"]["reason"] == "bad model"
    assert [(freeze["reason"], freeze["starts_at"]) for freeze in told["freezes"]] == [
        ("release", "2998-01-01T00:00:00+00:00")
    ]
    assert told["broken_schedules"] == 1
    assert "1 schedule broken" in rota("status").out
