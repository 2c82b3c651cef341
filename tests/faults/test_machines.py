"""A machine that dies with all that is on it: what ran there is gone on with on another one."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from runners.scripted_model import ScriptedModel
from schedules.firing import trigger
from schedules.models import KeptConversation, KeptWork, Session, WorkerHeartbeat
from tests.faults.house import House, house
from tests.processes import until
from tests.runners.claude_sessions import say
from tests.schedules.factories import make_schedule
from tests.schedules.places import make_shop

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600), pytest.mark.slow]

# A Celery whose machine has a name of its own.
_ELSEWHERE = (
    "import ctypes, socket, sys; ctypes.CDLL(None).unshare(0x04000000) and sys.exit('no namespace'); "
    "socket.sethostname(sys.argv.pop(1)); from celery.bin.celery import main; main()"
)
HALF = "echo half > work.txt; echo half is done; sleep 500"
ANSWERS = [
    [{"type": "tool_use", "name": "Bash", "input": {"command": HALF}}],
    [{"type": "tool_use", "name": "Bash", "input": {"command": "cat work.txt"}}],
    say("All is done."),
]


def machine(rota: House, name: str, model: ScriptedModel) -> subprocess.Popen[bytes]:
    """A sessions worker on a machine with a name and folders of its own."""
    arguments = ("--app", "config", "--quiet", "worker", "--pool", "threads", "--queues", "sessions")
    given = {
        "ROTA_VAR": str(rota.var / name),
        "ROTA_REHEARSE": "false",
        "ROTA_KEEP_CONVERSATION_EVERY": "10",
        "ROTA_KEEP_WORK_EVERY": "10",
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "made-up",
        "REDIS_URL": rota.broker_url,
    }
    (rota.var / name).mkdir(mode=0o700)
    started = rota.start(
        "-c", _ELSEWHERE, name, *arguments, "--hostname", f"sessions@{name}", "--concurrency", "1", log=name, **given
    )
    there = WorkerHeartbeat.objects.filter(hostname=name, stopped_at=None)
    until(there.exists, within=60, what=f"{name} is ready: {rota.said(name)}")
    return started


def is_kept(session: Session) -> bool:
    said = KeptConversation.objects.filter(pk=session.pk).values_list("data", flat=True).first()
    has_work = KeptWork.objects.filter(pk=session.pk).exists()
    return has_work and b"echo half" in gzip.decompress(said or gzip.compress(b""))


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can name a machine.")
def test_an_agent_whose_machine_died_is_gone_on_with_by_the_next_one(tmp_path: Path, settings: Settings) -> None:
    settings.ROTA_REHEARSE = False
    shop = make_shop(tmp_path)
    with ScriptedModel(ANSWERS) as model, house(ROTA_LEASE="30") as rota:
        rota.worker("control")
        rota.beat()
        one = machine(rota, "one", model)
        schedule = make_schedule(
            now=timezone.now(),
            runner="claude",
            model="haiku",
            prompt="Do both halves.",
            allowed_tools=["Bash"],
            continue_interrupted=True,
            silence=None,
            repositories=[shop],
        )
        first = trigger(schedule, now=timezone.now())[0].sessions.get()
        until(lambda: is_kept(first), within=120, what=f"it is kept: {rota.said('one')}")

        rota.kill(one)
        kill(rota.var / "one" / "sessions" / str(first.pk))
        (rota.var / "one").rename(rota.var / "scrap")
        machine(rota, "two", model)
        until(
            lambda: Session.objects.filter(retry_of=first).exclude(status__in=Session.OPEN).exists(),
            within=240,
            what=f"it is gone on with: {rota.said('two')}",
        )

        first.refresh_from_db()
        second = Session.objects.get(retry_of=first)
        assert (first.status, first.reason, first.hostname) == ("lost", "worker_died", "one")
        assert (second.status, second.hostname, second.resumed_from, second.message) == ("succeeded", "two", first, "")
        assert second.base_commit != first.base_commit, "it begins with what was done"
        assert "echo half > work.txt" in str(model.requests[-1].body)
        assert socket.gethostname() not in ("one", "two")
