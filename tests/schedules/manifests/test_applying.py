"""A manifest becomes rows, whole or not at all, and again without a change."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import LazySettings

from schedules import steering
from schedules.manifests import Applied, ManifestError, apply, read
from schedules.models import Command, Repository, Run, Schedule
from tests.schedules.factories import make_command, make_pool, make_repository, make_schedule

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 3, 1, 8, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)

TEAM = """\
commands:
  codebase/look:
    description: Looks.
    prompt: Look at {{ repository }}, {{ var.tone }}.
schedules:
  look:
    runner: claude
    model: haiku
    target: codebase
    command: codebase/look
    variables: {tone: brief}
    cron: "0 9 * * *"
  count:
    runner: script
    argv: [echo, "1"]
"""


@pytest.fixture
def shop() -> Repository:
    return make_repository("shop")


def applied(
    folder: Path, text: str, *repositories: Repository, only_missing: bool = False, now: datetime = NOW
) -> Applied:
    path = folder / "team.yaml"
    path.write_text(text)
    return apply(read(path), repositories=repositories, only_missing=only_missing, by="ada", now=now)


def refused(folder: Path, text: str, *repositories: Repository) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        applied(folder, text, *repositories)
    return str(caught.value).splitlines()


def test_what_is_new_is_created_and_planned(tmp_path: Path, shop: Repository) -> None:
    done = applied(tmp_path, TEAM, shop)

    assert done.created == ["command codebase/look", "schedule look", "schedule count"]
    look = Schedule.objects.get(name="look")
    assert look.command == Command.objects.get(pk="codebase/look")
    assert list(look.repositories.all()) == [shop]
    assert look.next_run_at == look.due_at == NOW.replace(hour=9)
    assert (look.status, look.status_by, look.status_at) == (Schedule.Status.ACTIVE, "ada", NOW)


def test_what_is_left_out_has_its_default(tmp_path: Path, shop: Repository, settings: LazySettings) -> None:
    settings.TIME_ZONE = "Europe/Paris"
    applied(tmp_path, TEAM, shop)

    look = Schedule.objects.get(name="look")
    assert look.time_zone == "Europe/Paris"
    assert look.timeout == timedelta(minutes=30)
    assert look.next_run_at == datetime(2027, 3, 2, 8, tzinfo=UTC)
    assert Command.objects.get().name == "codebase/look"


def test_applied_again_it_changes_nothing(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM, shop)
    before = list(Schedule.objects.values())

    done = applied(tmp_path, TEAM, shop, now=LATER)

    assert (done.created, done.updated) == ([], [])
    assert done.unchanged == ["command codebase/look", "schedule look", "schedule count"]
    assert list(Schedule.objects.values()) == before


def test_a_change_in_the_file_is_taken_over(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM, shop)

    done = applied(tmp_path, TEAM.replace("0 9", "0 7").replace("Looks.", "Looks twice."), shop, now=LATER)

    assert done.updated == ["command codebase/look", "schedule look"]
    assert done.unchanged == ["schedule count"]
    assert Schedule.objects.get(name="look").next_run_at == datetime(2027, 3, 3, 7, tzinfo=UTC)
    assert Command.objects.get().description == "Looks twice."


def test_a_change_that_is_not_of_time_leaves_a_due_time_due(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM, shop)

    applied(tmp_path, TEAM.replace("haiku", "sonnet"), shop, now=LATER)

    assert Schedule.objects.get(name="look").due_at == NOW.replace(hour=9)


def test_a_key_that_is_taken_out_goes_back_to_its_default(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM + "    timeout: 5m\n", shop)

    done = applied(tmp_path, TEAM, shop)

    assert done.updated == ["schedule count"]
    assert Schedule.objects.get(name="count").timeout == timedelta(minutes=30)


def test_the_status_belongs_to_people(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM, shop)
    steering.pause(Schedule.objects.filter(name="look"), by="bob", reason="holidays", now=NOW)

    applied(tmp_path, TEAM.replace("0 9", "0 7"), shop)

    look = Schedule.objects.get(name="look")
    assert (look.status, look.status_by, look.next_run_at) == (Schedule.Status.PAUSED, "bob", None)


def test_what_the_file_does_not_name_is_left_alone(tmp_path: Path, shop: Repository) -> None:
    other = make_schedule("other", now=NOW)

    applied(tmp_path, TEAM, shop)

    assert Schedule.objects.get(pk=other.pk).updated_at == other.updated_at


def test_repositories_of_a_schedule_are_named_by_their_short_names(tmp_path: Path, shop: Repository) -> None:
    blog = make_repository("blog")

    applied(tmp_path, TEAM + "    repositories: [blog]\n", shop)
    moved = applied(tmp_path, TEAM + "    repositories: [blog, shop]\n", shop)
    emptied = applied(tmp_path, TEAM + "    repositories: []\n", shop)

    assert moved.updated == emptied.updated == ["schedule count"]
    assert not Schedule.objects.get(name="count").repositories.exists()
    assert blog.schedules.count() == 0


def test_what_exists_stays_as_it_is_where_only_the_missing_is_wanted(tmp_path: Path, shop: Repository) -> None:
    make_command("codebase/look", prompt="Mine: {{ var.tone }}")
    make_schedule("look", now=NOW, cron="0 3 * * *")

    done = applied(tmp_path, TEAM, shop, only_missing=True)

    assert done.created == ["schedule count"]
    assert done.unchanged == ["command codebase/look", "schedule look"]
    assert Schedule.objects.get(name="look").cron == "0 3 * * *"
    assert Command.objects.get().prompt == "Mine: {{ var.tone }}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            TEAM.replace('"0 9 * * *"', '"0 0 31 2 *"'),
            "team.yaml, line 12, schedules.look.cron: This line never fires: February never has a day 31.",
        ),
        (
            TEAM + "    time_zone: Europe/Pariss\n",
            "team.yaml, line 16, schedules.count.time_zone: There is no time zone 'Europe/Pariss'. Did you mean",
        ),
        (
            TEAM.replace("command: codebase/look", "command: codebase/loko"),
            "team.yaml, line 10, schedules.look.command: There is no command “codebase/loko”. "
            "Did you mean codebase/look?",
        ),
        (
            TEAM + "    repositories: [shpo, nowhere]\n",
            "team.yaml, line 16, schedules.count.repositories: There is no repository “shpo”. Did you mean shop?",
        ),
        (
            TEAM.replace('    argv: [echo, "1"]\n', ""),
            "team.yaml, line 13, schedules.count.argv: ",
        ),
        (
            TEAM.replace("runner: script", "runner: scripd"),
            "team.yaml, line 14, schedules.count.runner: There is no runner “scripd”.",
        ),
        (
            TEAM.replace("    variables: {tone: brief}\n", ""),
            "team.yaml, line 10, schedules.look.command: {{ var.tone }}: this schedule has no variable “tone”.",
        ),
        (
            TEAM.replace("  count:", "  Count It:"),
            "team.yaml, line 13, schedules.Count It.name: Use lower-case letters, digits and dashes",
        ),
        (
            TEAM.replace("codebase/look:", "Code Base:").replace("command: codebase/look", "command: Code Base"),
            "team.yaml, line 2, commands.Code Base: Use words of lower-case letters, digits and dashes",
        ),
        (
            TEAM + "    max_items: 101\n",
            "team.yaml, line 16, schedules.count.max_items: Ensure this value is less than or equal to 100.",
        ),
        (
            TEAM + "    target: codebase\n    repositories: []\n",
            "team.yaml, line 17, schedules.count.repositories: Choose a repository: the target is the codebase.",
        ),
        (
            TEAM + "    starts_at: 2027-02-01T00:00Z\n    ends_at: 2027-01-01T00:00Z\n",
            "team.yaml, line 13, schedules.count: The end must be after the start.",
        ),
    ],
)
def test_what_could_not_run_is_refused_at_its_line(tmp_path: Path, shop: Repository, text: str, problem: str) -> None:
    found = refused(tmp_path, text, shop)

    assert found[0].startswith(problem)
    assert not Schedule.objects.exists()
    assert not Command.objects.exists()


def test_one_bad_entry_keeps_out_all_and_every_problem_is_told(tmp_path: Path, shop: Repository) -> None:
    text = TEAM.replace('"0 9 * * *"', "often").replace('argv: [echo, "1"]', "cron: '61 * * * *'")

    found = refused(tmp_path, text, shop)

    assert [line.split(":")[0] for line in found] == [
        "team.yaml, line 12, schedules.look.cron",
        "team.yaml, line 13, schedules.count.argv",
        "team.yaml, line 15, schedules.count.cron",
    ]
    assert not Command.objects.exists()


def test_a_schedule_for_the_codebase_needs_a_repository(tmp_path: Path) -> None:
    found = refused(tmp_path, TEAM)

    assert found == ["team.yaml, line 6, schedules.look.repositories: Choose a repository: the target is the codebase."]


POOLED = """\
schedules:
  count:
    runner: script
    argv: [echo, "1"]
    pools: [memory, deploys]
    weight: 3
    max_run_usd: 4.50
"""


def test_a_schedule_names_its_pools_weight_and_money(tmp_path: Path) -> None:
    make_pool("memory", places=8)
    make_pool("deploys", places=3)

    assert applied(tmp_path, POOLED).created == ["schedule count"]
    assert applied(tmp_path, POOLED).unchanged == ["schedule count"]
    schedule = Schedule.objects.get()
    assert {pool.name for pool in schedule.pools.all()} == {"memory", "deploys"}
    assert (schedule.weight, schedule.max_run_usd) == (3, Decimal("4.50"))

    assert applied(tmp_path, POOLED.replace("[memory, deploys]", "[memory]")).updated == ["schedule count"]
    assert [pool.name for pool in schedule.pools.all()] == ["memory"]


def test_a_pool_that_is_not_there_or_too_narrow_is_refused(tmp_path: Path) -> None:
    make_pool("memory", places=2)
    place = "team.yaml, line 5, schedules.count.pools"
    assert refused(tmp_path, POOLED) == [f"{place}: There is no pool “deploys”. Register it first."]
    assert refused(tmp_path, POOLED.replace(", deploys", "")) == [
        f"{place}: A session takes 3 places, more than there are in all: memory (2)."
    ]


ONCE = """\
schedules:
  once:
    runner: script
    argv: [echo, hello]
    at: 2999-01-04T09:00+01:00
    max_runs: 1
"""


def test_a_time_of_its_own_is_taken_over_and_one_that_is_past_is_refused(tmp_path: Path) -> None:
    applied(tmp_path, ONCE, make_repository())
    schedule = Schedule.objects.get()
    assert schedule.at is not None
    assert (schedule.due_at, schedule.max_runs) == (schedule.at, 1)

    with pytest.raises(ManifestError, match=r"line 5, schedules.late.at: This time is past"):
        applied(tmp_path, ONCE.replace("2999", "2020").replace("once", "late"), make_repository())
    Schedule.objects.update(at=NOW - timedelta(days=1))
    assert applied(tmp_path, ONCE, make_repository(), now=NOW).updated == ["schedule once"]


def test_a_new_time_in_the_file_runs_what_is_due_by_the_old_one_first(tmp_path: Path, shop: Repository) -> None:
    applied(tmp_path, TEAM, shop)

    applied(tmp_path, TEAM.replace("0 9", "0 7"), shop, now=LATER)

    assert Run.objects.get().scheduled_for == NOW.replace(hour=9)
