"""An agent whose worker goes away is gone on with, by a session of its own that begins where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.models import Session
from schedules.upkeep import declare_lost
from tests.schedules.interrupting import DONE, WORK, begin, half_done, interrupt, notes, run
from tests.schedules.places import end_sessions, use_folders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_REHEARSE = False
    use_folders(settings, tmp_path / "one")
    yield
    end_sessions(tmp_path)


def test_it_goes_on_with_its_conversation_and_its_work(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    interrupt(first, settings, tmp_path)
    assert (first.status, first.reason) == ("cancelled", "shutdown")
    assert first.branch
    first.run.refresh_from_db()
    assert first.run.is_open

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [DONE], lambda: "")

    assert (second.status, second.attempt, second.resumed_from) == ("succeeded", 2, first)
    assert second.base_commit == first.head_commit
    assert second.branch == "" or second.branch == f"{first.branch}.2"
    assert "It goes on from the branch" in notes(second)
    assert "was interrupted" in second.prompt
    assert "echo half > work.txt" in str(asked[-1].body), "the model is told what it did before"
    second.run.refresh_from_db()
    assert second.run.status == "succeeded"


def test_without_the_policy_an_interruption_is_the_end(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path)
    interrupt(first, settings, tmp_path)
    assert Session.objects.count() == 1
    first.run.refresh_from_db()
    assert first.run.status == "cancelled"


def test_what_its_worker_ended_without_a_lease_is_gone_on_with_too(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    run(first, settings, [WORK, DONE], lambda: "lost" if half_done(tmp_path) else "")
    assert (first.status, first.reason) == ("lost", "worker_died")
    second = Session.objects.get(retry_of=first)
    run(second, settings, [DONE], lambda: "")
    assert (second.status, second.resumed_from) == ("succeeded", first)


def test_what_was_lost_with_its_machine_begins_anew_and_says_so(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    run(first, settings, [WORK, DONE], lambda: "detach" if half_done(tmp_path) else "")
    Session.objects.filter(pk=first.pk).update(worker=None)
    assert declare_lost(now=timezone.now()) == 1
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    run(second, settings, [DONE], lambda: "")
    assert (second.status, second.resumed_from) == ("succeeded", None)
    assert "begins a new conversation" in second.message
    assert "is not kept on this machine" in second.message
