"""`workspaces`: what is on this machine, and making room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.folders import kept_checkouts
from schedules.models import Repository, Session
from tests.schedules.management.running import Ended, run
from tests.schedules.places import make_shop, run_script, use_folders_that_keep
from tests.schedules.test_sweeping import leave_behind

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folders(settings: Settings, tmp_path: Path) -> None:
    use_folders_that_keep(settings, tmp_path)


@pytest.fixture
def left(tmp_path: Path) -> Session:
    """A session that is lost, with its workspace, beside a kept checkout of the same repository."""
    shop = make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)
    session = leave_behind(shop)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    run_script("true", shop)
    return session


def workspaces(*arguments: str) -> Ended:
    return run("workspaces", *arguments)


def test_where_there_is_none_it_says_so() -> None:
    for verb in ("list", "reap"):
        ended = workspaces(verb)
        assert (ended.code, ended.out) == (0, "")
        assert "no workspace" in ended.err or "nothing to reap" in ended.err
    assert json.loads(workspaces("--json").out) == []
    assert workspaces("reap", "--json").object == {"freed_bytes": 0, "reaped": []}


def test_it_lists_session_repository_state_size_and_age(left: Session) -> None:
    ended = workspaces()
    heading, *rows = (line.split() for line in ended.out.splitlines())
    assert heading == ["session", "repository", "state", "size", "age"]
    assert [row[:3] for row in rows] == [[str(left.pk), "shop", "leftover"], [str(left.pk + 1), "shop", "kept"]]
    assert all(row[4] in ("kB", "B") and row[-1] == "min" for row in rows)
    assert "2 workspaces" in ended.err


def test_programs_get_json(left: Session, tmp_path: Path) -> None:
    found = json.loads(workspaces("list", "--json").out)
    assert [(one["session"], one["repository"], one["state"]) for one in found] == [
        (left.pk, "shop", "leftover"),
        (left.pk + 1, "shop", "kept"),
    ]
    assert found[0]["path"] == str(tmp_path / "workspaces" / str(left.pk))
    assert found[0]["bytes"] > 1000
    assert 0 <= found[0]["age"] < 60


def test_reaping_archives_what_is_left_and_leaves_what_is_within_the_limits(left: Session, tmp_path: Path) -> None:
    ended = workspaces("reap")
    assert (ended.code, len(kept_checkouts().listed())) == (0, 1)
    patch = tmp_path / "sessions" / "reaped" / f"{left.pk}.patch"
    assert f"its changes are in {patch}" in ended.out
    assert "freed." in ended.err
    assert patch.exists()


def test_all_kept_ones_go_where_that_is_asked(left: Session) -> None:
    found = workspaces("reap", "--all-kept", "--json").object
    assert [(one["name"], one["state"], one["error"]) for one in found["reaped"]] == [
        (str(left.pk), "leftover", ""),
        (str(left.pk + 1), "kept", ""),
    ]
    assert found["freed_bytes"] == sum(one["bytes"] for one in found["reaped"])
    assert kept_checkouts().listed() == []
    assert workspaces("list", "--all-kept").code == 2


def test_what_can_not_be_archived_stays_and_is_said(left: Session, tmp_path: Path) -> None:
    (tmp_path / "workspaces" / str(left.pk) / "workspace.json").write_text("{}")
    ended = workspaces("reap")
    assert ended.code == 1
    assert "stays: There is no whole workspace" in ended.out
    assert (tmp_path / "workspaces" / str(left.pk) / "checkout").is_dir()
