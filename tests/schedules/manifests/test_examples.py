"""What comes with Rota is valid where it has just been installed, and does what it says."""

import os
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from schedules import placeholders
from schedules.manifests import EXAMPLES, apply, read
from schedules.models import Command, Repository, Schedule
from tests.schedules.factories import make_repository

NOW = datetime(2027, 3, 1, 5, 0, tzinfo=UTC)


@pytest.fixture
def checkout() -> Repository:
    return make_repository("rota")


@pytest.fixture
def examples(checkout: Repository) -> dict[str, Schedule]:
    """On a fresh database."""
    apply(read(EXAMPLES), repositories=[checkout], only_missing=True, by="ada", now=NOW)
    return {schedule.name: schedule for schedule in Schedule.objects.all()}


@pytest.mark.django_db
def test_each_example_is_a_schedule_that_can_run(examples: dict[str, Schedule], checkout: Repository) -> None:
    assert set(examples) == {"todo-report", "docs-freshness", "dashboard-refresh", "daily-briefing", "weekly-review"}
    for schedule in examples.values():
        schedule.full_clean()
        schedule.check_repositories([checkout])
        assert schedule.status == Schedule.Status.ACTIVE
        assert schedule.due_at is not None
        assert schedule.time_zone == settings.TIME_ZONE


@pytest.mark.django_db
def test_the_runners_are_those_of_the_examples(examples: dict[str, Schedule]) -> None:
    assert Counter(schedule.runner for schedule in examples.values()) == {"function": 2, "script": 1, "claude": 2}


@pytest.mark.django_db
def test_what_costs_money_is_bounded_and_rare(examples: dict[str, Schedule]) -> None:
    for schedule in examples.values():
        if schedule.is_agent:
            assert schedule.max_budget_usd is not None
            assert schedule.max_budget_usd <= 2
            assert schedule.max_turns
            assert len(schedule.upcoming(NOW, 8)) == 8
            assert (schedule.upcoming(NOW, 8)[-1] - NOW).days >= 8, "no more than once a day"


@pytest.mark.django_db
def test_the_briefing_may_only_read(examples: dict[str, Schedule]) -> None:
    tools = examples["daily-briefing"].allowed_tools

    assert tools == ["Read", "Grep", "Glob", "Bash(git log *)", "Bash(git diff *)", "Bash(git show *)"]
    assert examples["daily-briefing"].model == "haiku"


@pytest.mark.django_db
def test_no_two_examples_are_due_at_the_same_time(examples: dict[str, Schedule]) -> None:
    times = Counter(instant for schedule in examples.values() for instant in schedule.upcoming(NOW, 30))

    assert max(times.values()) == 1


@pytest.mark.django_db
def test_loading_them_again_changes_nothing(examples: dict[str, Schedule], checkout: Repository) -> None:
    before = list(Schedule.objects.values())

    done = apply(read(EXAMPLES), repositories=[checkout], by="ada", now=NOW)

    assert (done.created, done.updated) == ([], [])
    assert list(Schedule.objects.values()) == before


@pytest.mark.django_db
@pytest.mark.usefixtures("examples")
def test_each_command_is_named_described_and_fenced() -> None:
    for command in Command.objects.all():
        command.full_clean()
        assert command.name != command.pk
        assert command.description
        assert placeholders.problems(command.prompt) == []
        used = set(placeholders.names(command.prompt))
        assert {"title", "body", "last_result"} & used == set() or "<data …>" in command.prompt, command
        assert "instruction" in command.prompt, f"{command} does not say that what it reads is no instruction"
        assert command.target in ("issues", "prs") or not {"title", "body", "number"} & used


def git(folder: Path, *arguments: str) -> None:
    identity = {"GIT_AUTHOR_NAME": "A | B", "GIT_AUTHOR_EMAIL": "a@example.org"}
    committer = {"GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org"}
    subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **identity, **committer}, check=True, timeout=30)


def dashboard(folder: Path) -> subprocess.CompletedProcess[str]:
    """The example's own command line, in the environment that a session has."""
    (script,) = (entry for entry in read(EXAMPLES).schedules if entry.name == "dashboard-refresh")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ROTA_RESULT_FILE": str(folder / "result.md"),
        "ROTA_REPOSITORY": "web-shop",
    }
    return subprocess.run(
        script.values["argv"], cwd=folder / "checkout", env=environment, capture_output=True, text=True, timeout=30
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "checkout").mkdir()
    git(tmp_path / "checkout", "init", "--quiet", "--initial-branch=main")
    return tmp_path


def test_the_dashboard_reports_on_any_repository(work: Path) -> None:
    checkout = work / "checkout"
    for name in ("a.py", "b.py", "-rf", "weird\nname.md", "Makefile"):
        (checkout / name).write_text(name)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message=One")
    git(checkout, "checkout", "--quiet", "-b", "feature")
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=Two")
    git(checkout, "checkout", "--quiet", "main")

    done = dashboard(work)

    assert (done.returncode, done.stderr) == (0, "")
    result = (work / "result.md").read_text()
    assert result.startswith("# web-shop\n\nNewest commit: ")
    assert "Commits: 1. Files: 5." in result
    assert "| Commits | Author |\n|---:|---|\n| 1 | A \\| B |\n" in result
    assert "| 2 | .py |\n" in result
    assert result.rstrip().splitlines()[-1].endswith("| feature |")
    assert done.stdout == f"Wrote {len(result.splitlines())} lines.\n"


def test_the_dashboard_says_none_where_there_is_nothing(work: Path) -> None:
    git(work / "checkout", "commit", "--quiet", "--allow-empty", "--message=One")

    assert dashboard(work).returncode == 0
    assert (work / "result.md").read_text().count("None.") == 2


def test_the_dashboard_fails_where_there_is_no_commit(work: Path) -> None:
    done = dashboard(work)

    assert done.returncode != 0
    assert not (work / "result.md").exists()
