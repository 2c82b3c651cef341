"""`incidents`: what should have happened and did not."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from schedules.models import Incident
from tests.schedules.factories import make_schedule
from tests.schedules.management.running import Ended, run

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


def incidents(*arguments: str) -> Ended:
    return run("incidents", *arguments)


@pytest.fixture
def late() -> Incident:
    schedule = make_schedule("nightly", now=NOW)
    Incident.objects.alarm("no_success", "nightly", message="nightly never succeeded.", schedule=schedule, now=NOW)
    return Incident.objects.get()


def test_a_house_without_trouble_says_so() -> None:
    ended = incidents()
    assert (ended.code, ended.out) == (0, "")
    assert "No incident is open" in ended.err
    assert json.loads(incidents("--json").out) == []


def test_it_lists_the_open_ones_and_says_by_its_exit_code_that_there_are_some(late: Incident) -> None:
    ended = incidents()
    assert ended.code == 1
    heading, row = ended.out.splitlines()
    assert heading.split()[:3] == ["number", "kind", "count"]
    for part in (str(late.pk), "no_success", "2027-01-04 09:00", "nightly never succeeded."):
        assert part in row


def test_programs_get_json(late: Incident) -> None:
    ended = incidents("list", "--json")
    assert ended.code == 1
    (found,) = json.loads(ended.out)
    assert (found["number"], found["kind"], found["schedule"]) == (late.pk, "no_success", "nightly")
    assert (found["first_at"], found["acknowledged_at"]) == ("2027-01-04T09:00:00+00:00", None)


def test_one_is_acknowledged(late: Incident) -> None:
    assert incidents("acknowledge", str(late.pk), "--by", "ada").code == 0
    late.refresh_from_db()
    assert late.acknowledged_by == "ada"
    assert "before" in incidents("acknowledge", str(late.pk)).err
    assert incidents().code == 0


@pytest.mark.parametrize("arguments", [("acknowledge",), ("acknowledge", "99"), ("list", "3")])
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    assert incidents(*arguments).code == 2
