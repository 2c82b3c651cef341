"""`loadexamples`: once, in a fresh installation, and never against what people did."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.conf import LazySettings

from schedules.models import Command, Repository, Schedule
from tests.schedules.factories import make_repository
from tests.schedules.management.running import run

pytestmark = pytest.mark.django_db

EXAMPLES = ["daily-briefing", "dashboard-refresh", "docs-freshness", "todo-report", "weekly-review"]


def repository_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], [*identity, "commit", "--quiet", "--allow-empty", "--message=One"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, timeout=30)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, settings: LazySettings) -> Path:
    """What Rota itself was installed from."""
    path = settings.BASE_DIR = repository_at(tmp_path / "Rota main")
    return path


def names() -> list[str]:
    return list(Schedule.objects.order_by("name").values_list("name", flat=True))


def test_a_fresh_installation_gets_its_own_checkout_and_the_examples(checkout: Path) -> None:
    ended = run("loadexamples")

    assert (ended.code, ended.err) == (0, "")
    repository = Repository.objects.get()
    assert (repository.slug, repository.url, repository.default_branch) == ("rota-main", str(checkout), "")
    assert names() == EXAMPLES
    assert all(list(schedule.repositories.all()) == [repository] for schedule in Schedule.objects.all())
    assert f"Created the repository rota-main from {checkout}.\n" in ended.out
    assert "Created the schedule daily-briefing.\n" in ended.out


@pytest.mark.usefixtures("checkout")
def test_again_it_does_nothing() -> None:
    run("loadexamples")
    before = list(Schedule.objects.values())

    ended = run("loadexamples")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "Nothing to do: there is a repository or a schedule already.\n"
    assert list(Schedule.objects.values()) == before


@pytest.mark.usefixtures("checkout")
def test_what_a_person_deleted_or_edited_stays_so() -> None:
    run("loadexamples")
    Schedule.objects.exclude(name="todo-report").delete()
    Schedule.objects.update(cron="0 3 * * *")

    run("loadexamples")
    assert names() == ["todo-report"]

    Schedule.objects.all().delete()
    run("loadexamples")
    assert names() == [], "the repository is there: nothing is fresh"


@pytest.mark.usefixtures("checkout")
def test_force_creates_what_is_missing_and_changes_nothing_else() -> None:
    run("loadexamples")
    Schedule.objects.exclude(name="todo-report").delete()
    Schedule.objects.update(cron="0 3 * * *")
    Command.objects.filter(pk="issue/triage").delete()

    ended = run("loadexamples", "--force")

    assert names() == EXAMPLES
    assert Schedule.objects.get(name="todo-report").cron == "0 3 * * *"
    assert Repository.objects.count() == 1
    assert ended.out.count("Created the schedule") == 4
    assert "Created the command issue/triage." in ended.out


@pytest.mark.usefixtures("checkout")
def test_a_short_name_that_is_taken_is_numbered(tmp_path: Path) -> None:
    make_repository("shop")
    make_repository("shop-2")

    run("loadexamples", "--force", "--repository-path", str(repository_at(tmp_path / "elsewhere" / "Shop")))

    assert Repository.objects.filter(slug="shop-3").exists()


@pytest.mark.usefixtures("checkout")
def test_another_checkout_can_be_the_first_repository(tmp_path: Path) -> None:
    path = repository_at(tmp_path / "__")

    assert run("loadexamples", "--repository-path", str(path)).code == 0
    assert Repository.objects.get().url == str(path)
    assert Repository.objects.get().slug == "repository"


def test_without_git_there_are_the_commands_and_a_word(tmp_path: Path, settings: LazySettings) -> None:
    settings.BASE_DIR = tmp_path

    ended = run("loadexamples")

    assert ended.code == 0
    assert not Schedule.objects.exists()
    assert not Repository.objects.exists()
    assert Command.objects.filter(pk="codebase/daily-briefing").exists()
    assert ended.err.startswith(f"{tmp_path} is not a git repository. So there is no repository and no example")

    settings.BASE_DIR = repository_at(tmp_path / "later")
    assert run("loadexamples").code == 0
    assert names() == EXAMPLES, "it was still fresh"


def test_a_given_path_has_to_be_a_repository_with_a_commit(tmp_path: Path, checkout: Path) -> None:
    inside = checkout / "docs"
    inside.mkdir()
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True, timeout=30)
    for path, problem in (
        (tmp_path / "none", "is not a folder."),
        (tmp_path / "empty", "has no commit yet."),
        (inside, "is not a git repository."),
    ):
        ended = run("loadexamples", "--repository-path", str(path))

        assert (ended.code, ended.err) == (2, f"{path} {problem}\n")
    assert not Repository.objects.exists()


@pytest.mark.usefixtures("checkout")
def test_examples_that_do_not_fit_the_settings_leave_nothing_behind(settings: LazySettings) -> None:
    settings.ROTA_FUNCTIONS = {}

    ended = run("loadexamples")

    assert ended.code == 1
    assert "schedules.todo-report.function: “todo-report” is not an allowed function." in ended.err
    assert ended.err.endswith("Nothing was created.\n")
    assert not Repository.objects.exists()
    assert not Command.objects.exists()
