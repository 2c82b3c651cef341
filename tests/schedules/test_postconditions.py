"""What a session says of itself is not enough: its schedule's checks have to succeed as well."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from runners import CHECKS, sandbox_obstacle
from runners.supervision import current
from schedules import vault
from schedules.execution import adopt, execute
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.models import Repository, Schedule, Session
from schedules.sweeping import sweep
from tests.processes import until
from tests.schedules.factories import make_worker
from tests.schedules.places import end_sessions, make_shop, queue_script, run_session, use_folders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings: Settings) -> Iterator[None]:
    use_folders(settings, tmp_path)
    settings.ROTA_REHEARSE = False
    yield
    end_sessions(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return make_shop(tmp_path)


def told(session: Session) -> list[str]:
    return list(session.events.order_by("seq").values_list("text", flat=True))


def test_where_they_all_succeed_so_does_the_session(shop: Repository) -> None:
    session = run_session(queue_script("echo work > new", shop, checks=["test -f new", "cat new && touch litter"]))

    assert (session.status, session.reason) == ("succeeded", "ok"), session.message
    assert [text for text in told(session) if "Check" in text or text == "work"] == [
        "Check 1: test -f new",
        "Check 2: cat new && touch litter",
        "work",
    ]
    assert session.files_changed == 1, "what a check leaves is none of its work"
    assert not (session_folder(session.pk) / CHECKS).exists()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("echo 3 tests failed >&2; exit 3", "“echo 3 tests failed >&2; exit 3” failed (exit code 3)"),
        ("echo 3 tests failed; false", "failed (exit code 1). 3 tests failed"),
        ("no-such-program", "failed (exit code 127)"),
        ("kill -SEGV $$", "failed (killed by SIGSEGV)"),
    ],
)
def test_where_one_fails_the_session_did(shop: Repository, check: str, words: str) -> None:
    session = run_session(queue_script("echo work > new", shop, checks=["true", check, "echo not reached"]))

    assert (session.status, session.reason) == ("failed", "check_failed")
    assert "It reported success, but its check" in session.message
    assert words in session.message
    assert "not reached" not in told(session)
    assert session.branch, "its work is kept all the same"


def test_one_is_bound_by_the_time_limit(shop: Repository) -> None:
    session = run_session(queue_script("true", shop, checks=["sleep 60"], timeout=timedelta(seconds=2)))
    assert (session.status, session.reason) == ("failed", "check_failed")
    assert "(timed out)" in session.message


def test_a_session_that_failed_is_not_checked(shop: Repository) -> None:
    session = run_session(queue_script("exit 3", shop, checks=["echo checked"]))
    assert (session.status, session.reason) == ("failed", "exit_code")
    assert "checked" not in " ".join(told(session))


def test_a_rehearsal_is_not_checked(shop: Repository) -> None:
    session = queue_script("true", shop, checks=["false"])
    Session.objects.filter(pk=session.pk).update(is_rehearsal=True)
    session = run_session(session)
    assert (session.status, session.reason) == ("succeeded", "ok"), session.message


def test_one_has_the_session_s_secrets_and_not_the_keys_to_its_model(shop: Repository, settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "canary-of-a-model-that-is-asked"}
    vault.put("TOKEN", "canary-of-the-table", by="ada", now=timezone.now())
    session = run_session(
        queue_script("true", shop, secrets=["TOKEN"], checks=["env | sort; echo key=$ANTHROPIC_API_KEY=$TOKEN; false"])
    )
    assert session.reason == "check_failed"
    assert "key==[redacted]" in told(session)
    assert "TOKEN=[redacted]" in told(session)
    assert "canary-of-the-table" not in " ".join([*told(session), session.message])


@pytest.mark.skipif(bool(sandbox_obstacle()), reason="no sandbox can be made here")
def test_one_is_in_the_session_s_sandbox(shop: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    session = run_session(
        queue_script("true", shop, sandbox="bubblewrap", network="none", checks=[f"! test -e {tmp_path}/outside"])
    )
    assert (session.status, session.reason) == ("succeeded", "ok"), session.message


def leaving(after: str, session: Session, wish: Wish = "detach") -> Any:
    """What a worker wants that leaves, or is asked to end it, as soon as a check has said `after`."""

    def look() -> Wish:
        return wish if session.events.filter(text=after).exists() else ""

    return look


def test_a_cancelled_one_is_cancelled(shop: Repository) -> None:
    session = queue_script("true", shop, checks=["echo begun; sleep 60"])
    session = run_session(session, wish=leaving("begun", session, "cancelled"))
    assert (session.status, session.reason) == ("cancelled", "cancelled")
    assert "“echo begun; sleep 60”" in session.message


def test_who_takes_the_session_over_follows_the_one_that_runs(shop: Repository, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo once >> {tmp_path}/runs; echo begun; while ! test -e {go}; do sleep 0.05; done; echo ended; false"
    session = queue_script("true", shop, checks=[script])
    worker = make_worker(now=timezone.now())
    Session.objects.filter(pk=session.pk).update(admitted_at=timezone.now())
    wish = leaving("begun", session)
    assert execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now) == "left"
    go.touch()
    heir = make_worker(now=timezone.now())
    assert adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now) == "failed"
    session.refresh_from_db()
    assert session.reason == "check_failed"
    assert [text for text in told(session) if text in ("begun", "ended")] == ["begun", "ended"]
    assert (tmp_path / "runs").read_text() == "once\n"


def test_what_nobody_follows_is_swept(shop: Repository) -> None:
    session = queue_script("true", shop, checks=["echo begun; sleep 300"])
    worker = make_worker(now=timezone.now())
    Session.objects.filter(pk=session.pk).update(admitted_at=timezone.now())
    wish = leaving("begun", session)
    assert execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now) == "left"
    check = session_folder(session.pk) / CHECKS / "1"
    assert current(check)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    sweep(now=timezone.now())
    until(lambda: not current(check), within=15, what="nobody is left")
    sweep(now=timezone.now() + timedelta(hours=1))
    assert not check.exists()


def test_they_are_texts() -> None:
    schedule = Schedule(name="x", runner="script", argv=["true"], checks=["make test", ""])
    with pytest.raises(ValidationError) as refused:
        schedule.full_clean()
    assert list(refused.value.message_dict) == ["checks"]
