"""An agent whose machine goes away is gone on with on another one, with what was kept of it meanwhile."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from schedules.models import KeptConversation, KeptWork, Session
from schedules.upkeep import declare_lost
from tests.schedules.interrupting import DONE, LOOK, WORK, begin, half_done, interrupt, last_result, notes, run
from tests.schedules.places import end_sessions, use_folders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_REHEARSE = False
    use_folders(settings, tmp_path / "one")
    yield
    end_sessions(tmp_path)


def test_on_another_machine_it_has_its_conversation_and_its_work(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    interrupt(first, settings, tmp_path)
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [LOOK, DONE], lambda: "")
    assert (second.status, second.resumed_from, second.message) == ("succeeded", first, "")
    assert "half" in last_result(asked[-1]), "it finds what it had written"
    assert second.base_commit == first.head_commit
    assert not KeptWork.objects.exists()


def test_what_ran_on_a_machine_that_died_is_gone_on_with_on_another(tmp_path: Path, settings: Settings) -> None:
    """Its worker, its shim, its agent and its folders are gone at once, as with the plug."""
    settings.ROTA_KEEP_CONVERSATION_EVERY = settings.ROTA_KEEP_WORK_EVERY = timedelta(seconds=1)
    settings.ROTA_SECRETS = {"TOKEN": "correct-horse-battery"}
    first = begin(tmp_path, continue_interrupted=True, secrets=["TOKEN"], prompt="Both. It is correct-horse-battery.")

    def is_kept() -> bool:
        said = KeptConversation.objects.filter(pk=first.pk).values_list("data", flat=True).first()
        return KeptWork.objects.exists() and b"echo half" in gzip.decompress(said or gzip.compress(b""))

    run(first, settings, [WORK, DONE], lambda: "detach" if half_done(tmp_path) and is_kept() else "")
    assert first.status == "running"
    assert b"correct-horse" not in gzip.decompress(KeptConversation.objects.get().data)
    kill(tmp_path / "one" / "sessions" / str(first.pk))
    (tmp_path / "one").rename(tmp_path / "gone")
    Session.objects.filter(pk=first.pk).update(worker=None)
    assert declare_lost(now=timezone.now()) == 1
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [LOOK, DONE], lambda: "")
    assert (second.status, second.resumed_from, second.message) == ("succeeded", first, "")
    assert "echo half > work.txt" in str(asked[-1].body), "the model is told what it did before"
    assert "half" in last_result(asked[-1]), "and finds it"
    assert "It goes on from the branch" in notes(second)
    assert [KeptWork.objects.count(), KeptConversation.objects.count()] == [0, 0]
