"""What a repository wants of its workspaces: a new checkout or a kept one, fetched or the last known state."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.folders import kept_checkouts
from schedules.models import Repository, Run, Session
from tests.runners.repositories import IDENTITY, run_git
from tests.schedules.factories import make_session
from tests.schedules.places import make_shop, queue_script, run_script, run_session, use_folders_that_keep

pytestmark = pytest.mark.django_db(transaction=True)

LEAVE = "echo secret > build.txt; mkdir build; echo secret > build/cache; git config user.name Eve; echo x >> README.md"
LOOK = "git status --porcelain --ignored; git config user.name; cat README.md; ls"
CLEAN = "Rota\n# Shop\nREADME.md"


@pytest.fixture(autouse=True)
def _folders(settings: Settings, tmp_path: Path) -> None:
    use_folders_that_keep(settings, tmp_path)


def notes(session: Session) -> str:
    return "\n".join(session.events.filter(kind="note").values_list("text", flat=True))


def test_a_fresh_repository_keeps_no_checkout(tmp_path: Path) -> None:
    run_script(LEAVE, make_shop(tmp_path))
    assert kept_checkouts().listed() == []
    assert list((tmp_path / "workspaces").iterdir()) == []


def test_a_warm_one_keeps_it_and_the_next_session_finds_nothing_of_the_one_before(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)
    first = run_script(LEAVE, shop)
    assert "+secret" in first.patch
    (kept,) = kept_checkouts().listed()
    assert (kept.slug, kept.name) == ("shop", str(first.pk))
    assert not list(kept.path.rglob("*build*"))

    second = run_script(LOOK, shop)
    assert (second.status, second.result.strip()) == ("succeeded", CLEAN)
    assert "in a kept checkout that was reset" in notes(second)
    assert "kept checkout" not in notes(first)
    assert [one.name for one in kept_checkouts().listed()] == [str(second.pk)]


def test_a_session_that_fails_leaves_its_checkout_as_well(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)
    failed = run_script(f"{LEAVE}; exit 3", shop)
    assert (failed.status, len(kept_checkouts().listed())) == ("failed", 1)
    assert run_script(LOOK, shop).result.strip() == CLEAN


def test_a_session_that_never_began_leaves_none(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)
    session = run_session(queue_script("true", shop), wish=lambda: "cancelled")
    assert (session.status, kept_checkouts().listed()) == ("cancelled", [])


def test_a_new_commit_is_found_in_a_kept_checkout(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)
    run_script("rm README.md", shop)
    (tmp_path / "shop" / "new").write_text("new\n")
    run_git(tmp_path / "shop", "add", "new")
    run_git(tmp_path / "shop", "commit", "--quiet", "-m", "More", environment=IDENTITY)
    assert run_script("git log -1 --format=%s; ls", shop).result.split() == ["More", "README.md", "new"]


@pytest.fixture
def away(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository that was fetched once, and whose forge hangs now."""
    settings.ROTA_FETCH_TIMEOUT = timedelta(seconds=1)
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\neval "exec $last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    shop = make_shop(tmp_path)
    shop.url = f"ssh://forge{shop.url}"
    shop.save(update_fields=["url"])
    assert run_script("true", shop).status == "succeeded"
    ssh.write_text("#!/bin/sh\nsleep 60\n")
    return shop


def test_while_the_forge_is_away_sessions_fail_with_a_reason_of_their_own(away: Repository) -> None:
    session = run_script("true", away)
    assert (session.status, session.reason) == ("failed", "fetch_failed")
    assert "took longer than 1 s" in session.message


def test_all_sessions_of_a_run_say_so_and_not_only_the_one_that_asked(away: Repository) -> None:
    away.on_fetch_failure = Repository.FetchFailure.LAST_KNOWN
    away.save(update_fields=["on_fetch_failure"])
    first = queue_script("true", away)
    second = make_session(first.run, now=timezone.now())
    for session in (run_session(first), run_session(second)):
        assert session.status == "succeeded"
        assert "its last known state, of" in session.message
        assert notes(session).count("its last known state, of") == 1
    assert run_session(second).base_commit == first.base_commit
    assert "its last known state, of" in Run.objects.get(pk=first.run_id).stale


@pytest.mark.parametrize(("script", "status"), [("cat README.md", "succeeded"), ("exit 3", "failed")])
def test_by_policy_they_work_on_the_last_known_state_and_say_so(away: Repository, script: str, status: str) -> None:
    away.on_fetch_failure = Repository.FetchFailure.LAST_KNOWN
    away.save(update_fields=["on_fetch_failure"])
    session = run_script(script, away)
    assert session.status == status
    assert "could not be fetched" in session.message
    assert "its last known state, of" in session.message
    assert "its last known state, of" in notes(session)
    assert session.base_commit == session.run.commit
