"""The snapshot that Python makes of a schedule, and the one that the database makes."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import models, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examined
from hypothesis import strategies as st
from pytest_django import Settings

from schedules.models import Schedule
from schedules.models.snapshot import OPTION_FIELDS, snapshot, snapshot_expression
from tests.schedules.factories import make_command, make_schedule

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
# Fields that other rules speak of: what is not for a snapshot, or for one kind of schedule.
ELSEWHERE = {
    "id",
    "name",
    "runner",
    "target",
    "command",
    "status",
    "at",
    "cron",
    "due_at",
    "max_items",
    "retry",
    "next_run_at",
}


def _values(field: Any) -> st.SearchStrategy[Any]:
    match field:
        case models.JSONField():
            kind = type(field.get_default())
            return st.lists(JSON, max_size=3) if kind is list else st.dictionaries(TEXT, JSON, max_size=3)
        case models.BooleanField():
            return st.booleans()
        case models.DurationField():
            spans = st.timedeltas(timedelta(), timedelta(days=4000))
            return spans | st.none() if field.null else spans
        case models.DecimalField():
            return st.none() | st.decimals(0, 99_999, places=2)
        case models.PositiveIntegerField() | models.PositiveSmallIntegerField() | models.SmallIntegerField():
            return st.integers(0, 1000) | (st.none() if field.null else st.nothing())
        case models.CharField() | models.TextField():
            return TEXT
    return st.nothing()


FIELDS = {
    field.attname: values
    for field in Schedule._meta.concrete_fields
    if field.name not in ELSEWHERE and not (values := _values(field)).is_empty
}


@examined(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.fixed_dictionaries({}, optional=FIELDS), functions=st.sampled_from([{}, {"f": "a.b"}]))
@pytest.mark.no_cover
def test_the_database_makes_the_snapshot_that_python_makes(
    settings: Settings, values: dict[str, Any], functions: dict[str, str]
) -> None:
    settings.ROTA_FUNCTIONS = functions
    settings.ROTA_PLUGIN_FOLDERS = ["/srv/plugins"]
    if "function" in values and functions:
        values["function"] = "f"
    schedule = make_schedule(now=NOW, next_run_at=NOW, due_at=NOW, **values)

    assert _of_database(schedule) == Schedule.objects.get(pk=schedule.pk).snapshot()
    schedule.delete()


def test_its_template_is_that_of_its_command() -> None:
    schedule = make_schedule(now=NOW, runner="claude", command=make_command(prompt="Look “here”."), model="haiku")

    found = _of_database(schedule)
    assert found["template"] == "Look “here”."
    assert found == schedule.snapshot()


def test_it_has_every_option_and_the_facts_of_this_installation() -> None:
    schedule = make_schedule(now=NOW, max_budget_usd=Decimal("1.50"))

    options = _of_database(schedule)["options"]

    assert set(options) == {*OPTION_FIELDS, "function_path", "plugin_folders"}
    assert (options["max_budget_usd"], options["tolerate_denied"]) == ("1.50", False)


@examined(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.fixed_dictionaries({}, optional=FIELDS), other=st.fixed_dictionaries({}, optional=FIELDS))
@pytest.mark.no_cover
def test_beside_one_that_it_is_like_or_unlike_it_has_its_own_snapshot(
    settings: Settings, values: dict[str, Any], other: dict[str, Any]
) -> None:
    settings.ROTA_PLUGIN_FOLDERS = ["/srv/plugins"]
    like = make_schedule(now=NOW, next_run_at=NOW, due_at=NOW, **values)
    schedule = make_schedule(now=NOW, next_run_at=NOW, due_at=NOW, **values | other)

    expected = Schedule.objects.get(pk=schedule.pk).snapshot()
    assert _of_database(schedule, like=Schedule.objects.get(pk=like.pk)) == expected
    Schedule.objects.all().delete()


@pytest.mark.no_cover
def test_a_difference_in_any_column_is_seen() -> None:
    like = make_schedule(now=NOW, runner="claude", prompt="Look.", argv=["100 %s"])
    unlike: dict[str, dict[str, Any]] = {
        **{name: {name: _another(getattr(like, name), Schedule._meta.get_field(name))} for name in FIELDS},
        **{name: {name: "another"} for name in ("name", "runner", "target", "cron")},
        "command": {"command": make_command(), "prompt": ""},
        "max_items": {"max_items": 77},
        "retry": {"retry": "all"},
    }
    facts = {*snapshot(like), *OPTION_FIELDS} - {"schedule", "template", "options"}
    assert facts <= unlike.keys()
    for name, values in unlike.items():
        with transaction.atomic():
            Schedule.objects.filter(pk=like.pk).update(**values)
            changed = Schedule.objects.get(pk=like.pk)
            assert _of_database(changed, like=like) == changed.snapshot(), name
            transaction.set_rollback(True)


def _another(value: Any, field: Any) -> Any:
    match field:
        case models.JSONField():
            return ["100 %", {"a": "ü\"'"}] if isinstance(field.get_default(), list) else {"%s": [1, None, "ü\"'"]}
        case models.BooleanField():
            return not value
        case models.DurationField():
            return timedelta(seconds=77.5)
        case models.DecimalField():
            return Decimal("77.10")
        case models.CharField() | models.TextField():
            return '100 %s “x"\\'
    return 77


def _of_database(schedule: Schedule, *, like: Schedule | None = None) -> Any:
    found = (
        Schedule.objects.filter(pk=schedule.pk).annotate(made=snapshot_expression(like)).values_list("made", flat=True)
    )
    made = found.get()
    return json.loads(made) if isinstance(made, str) else made
