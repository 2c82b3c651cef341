"""Repositories, commands, workers and the machinery."""

import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from schedules.models import Command, Repository
from tests.schedules.admin.forms import errors_of, submit
from tests.schedules.factories import make_command, make_repository, make_schedule, make_session, make_worker

ADD_REPOSITORY = reverse("admin:schedules_repository_add")


@pytest.fixture
def git_repository(tmp_path: Path) -> Path:
    """One commit, on a branch of an unusual name."""
    path = tmp_path / "shop"
    for arguments in (
        ("init", "--quiet", "--initial-branch=trunk", str(path)),
        ("-C", str(path), "commit", "--quiet", "--allow-empty", "--message=Begin"),
    ):
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *identity, *arguments], check=True, timeout=20)
    return path


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "--upload-pack=id", "http ://x", "relative/path", "ssh://-oProxyCommand=id/x", "git@host"]
)
def test_an_address_that_is_none_is_refused_at_its_field(console: Client, url: str) -> None:
    errors = errors_of(submit(console, ADD_REPOSITORY, slug="shop", url=url))

    assert set(errors) == {"url"}
    assert not Repository.objects.exists()


def test_a_repository_is_asked_for_its_branch(console: Client, git_repository: Path) -> None:
    response = submit(console, ADD_REPOSITORY, slug="shop", url=f" {git_repository} ")

    assert response.status_code == 302
    saved = Repository.objects.get()
    assert (saved.url, saved.default_branch, saved.forge_settings) == (str(git_repository), "trunk", {})


def test_a_branch_that_was_given_stays(console: Client, git_repository: Path) -> None:
    submit(console, ADD_REPOSITORY, slug="shop", url=str(git_repository), default_branch="develop")

    assert Repository.objects.get().default_branch == "develop"


def test_a_repository_that_can_not_be_read_from_here_is_saved_with_a_warning(console: Client, tmp_path: Path) -> None:
    submit(console, ADD_REPOSITORY, slug="shop", url=str(tmp_path / "elsewhere"))

    page = console.get(reverse("admin:schedules_repository_changelist")).content.decode()
    assert "could not be read from here" in page
    assert Repository.objects.get().default_branch == ""


def test_a_repository_tells_how_many_schedules_use_it(console: Client, now: datetime) -> None:
    shop = make_repository("shop", enabled=False)
    make_schedule(now=now, repositories=[shop])

    row = console.get(reverse("admin:schedules_repository_changelist")).context["cl"].result_list[0]

    assert row.schedule_count == 1


# --- Commands -----------------------------------------------------------------------------------


def command_page(command: Command) -> str:
    return reverse("admin:schedules_command_change", args=(command.pk,))


def test_a_command_is_added(console: Client) -> None:
    submit(
        console,
        reverse("admin:schedules_command_add"),
        id="codebase/tidy",
        name="Tidy",
        prompt="Tidy {{ repository }} in the style of {{ var.style }}.\n",
    )

    assert Command.objects.get().prompt.endswith("{{ var.style }}.\n")


def test_an_unknown_placeholder_is_refused(console: Client) -> None:
    command = make_command()

    errors = errors_of(submit(console, command_page(command), prompt="See {{ nothing }}."))

    assert "{{ nothing }} is not a placeholder" in errors["prompt"][0]


def test_a_prompt_that_would_break_a_schedule_is_refused_with_its_name(console: Client, now: datetime) -> None:
    command = make_command("codebase/tidy")
    for name in ("has-it", *(f"lacks-it-{number}" for number in range(7))):
        variables = {"style": "calm"} if name == "has-it" else {}
        make_schedule(
            name, now=now, runner="claude", model="haiku", command=command, target="codebase", variables=variables
        )

    errors = errors_of(submit(console, command_page(command), prompt="Be {{ var.style }}."))

    told = " ".join(errors["prompt"])
    assert "lacks-it-0: {{ var.style }}" in told
    assert "has-it:" not in told
    assert "and 2 more" in told
    assert Command.objects.get().prompt == "Look at {{ repository }}."


def test_the_target_of_a_command_in_use_stays(console: Client, now: datetime) -> None:
    command = make_command("codebase/tidy")
    make_schedule("user", now=now, runner="claude", model="haiku", command=command, target="codebase")

    errors = errors_of(submit(console, command_page(command), target="issues"))

    assert errors == {"target": ["user: use it with the target it has."]}
    assert submit(console, command_page(command), description="Better").status_code == 302


# --- Workers and machinery ----------------------------------------------------------------------


def test_workers_are_told_apart_by_their_life(console: Client, now: datetime) -> None:
    worker = make_worker("sessions@here", now=now)
    make_worker("sessions@stopped", now=now, stopped_at=now)
    make_session(now=now, status="running", worker=worker)

    page = console.get(reverse("admin:schedules_workerheartbeat_changelist"))

    assert [row.running for row in page.context["cl"].result_list if row.name == "sessions@here"] == [1]
    for state in ("rota-is-alive", "rota-is-stopped"):
        assert state in page.content.decode()
    change = reverse("admin:schedules_workerheartbeat_change", args=(worker.pk,))
    assert console.get(change).status_code == 200
    assert console.post(change, {"name": "x"}).status_code == 403
    assert console.get(reverse("admin:schedules_workerheartbeat_add")).status_code == 403
    assert console.post(reverse("admin:schedules_workerheartbeat_delete", args=(worker.pk,))).status_code == 403


def test_who_takes_no_sessions_is_not_said_to_take_none(console: Client, now: datetime) -> None:
    make_worker("sessions@here", now=now, concurrency=8)
    make_worker("beat@here", now=now, kind="beat", concurrency=0)

    page = console.get(reverse("admin:schedules_workerheartbeat_changelist")).content.decode()

    cells = dict(re.findall(r'>(\w+)@here<.*?data-label="Concurrency">([^<]+)<', page, re.DOTALL))
    assert cells == {"sessions": "8", "beat": "–"}


def test_workers_show_the_programs_of_agents(console: Client, now: datetime) -> None:
    make_worker(
        now=now,
        programs={
            "claude": {
                "version": "2.1.300",
                "path": "/opt/claude",
                "remark": "It is older than <tried>.",
            },
            "codex": {"missing": "There is no Codex on PATH."},
        },
    )
    page = console.get(reverse("admin:schedules_workerheartbeat_changelist")).content.decode()
    assert 'title="It is older than &lt;tried&gt;.">claude 2.1.300</span>' in page
    assert 'title="There is no Codex on PATH.">codex missing</span>' in page


@pytest.mark.parametrize(
    "model",
    [
        *(f"django_celery_beat_{name}" for name in ("periodictask", "crontabschedule", "intervalschedule")),
        *("django_celery_beat_solarschedule", "django_celery_beat_clockedschedule"),
        *("django_celery_results_taskresult", "django_celery_results_groupresult", "auth_user", "auth_group"),
    ],
)
def test_the_machinery_has_its_pages(console: Client, model: str) -> None:
    page = console.get(reverse(f"admin:{model}_changelist"))

    assert page.status_code == 200
    assert "Machinery" in page.content.decode()
    assert console.get(reverse(f"admin:{model}_add")).status_code == (403 if "result" in model else 200)


def test_rows_of_the_machinery_open(console: Client, db: None) -> None:
    every = IntervalSchedule.objects.create(every=10, period="seconds")
    periodic = PeriodicTask.objects.create(name="tidy", task="schedules.tasks.prune", interval=every)
    result = TaskResult.objects.create(task_id="task-1", status="SUCCESS")
    user = User.objects.get()

    for model, row in (
        ("django_celery_beat_periodictask", periodic),
        ("django_celery_results_taskresult", result),
        ("auth_user", user),
    ):
        assert console.get(reverse(f"admin:{model}_change", args=(row.pk,))).status_code == 200


@pytest.mark.parametrize("model", ["schedule", "run", "session", "repository", "command", "workerheartbeat"])
def test_nobody_sees_a_list_without_the_right_to(
    client: Client, stranger: Client, onlooker: Client, model: str
) -> None:
    url = reverse(f"admin:schedules_{model}_changelist")

    assert client.get(url).status_code == 302
    assert stranger.get(url).status_code == 403
    assert onlooker.get(url).status_code == 200


@pytest.mark.parametrize("model", ["schedule", "run", "session"])
def test_nobody_sees_a_page_without_the_right_to(
    client: Client, stranger: Client, onlooker: Client, now: datetime, model: str
) -> None:
    session = make_session(now=now)
    pk = {"schedule": session.schedule_id, "run": session.run_id, "session": session.pk}[model]
    url = reverse(f"admin:schedules_{model}_change", args=(pk,))

    assert client.get(url).status_code == 302
    assert stranger.get(url).status_code == 403
    assert onlooker.get(url).status_code == 200
    assert stranger.get(reverse("admin:schedules_schedule_preview")).status_code == 403
