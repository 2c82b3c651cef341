"""What a session is given, and what is hidden of it."""

import gzip

import pytest
from pytest_django import Settings

from schedules.folders import session_folder
from schedules.models import Repository, WorkerHeartbeat
from tests.schedules.places import queued, run_admitted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("folders")]


def test_the_values_of_secrets_are_nowhere(worker: WorkerHeartbeat, repository: Repository, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "canary-47110815"}
    script = 'echo "it is $DEPLOY_TOKEN"; echo "$DEPLOY_TOKEN" > "$ROTA_RESULT_FILE"'
    session = run_admitted(queued("sh", "-c", script, secrets=["DEPLOY_TOKEN"], repositories=[repository]), worker)

    assert session.status == "succeeded"
    assert "it is [redacted]" in session.events.values_list("text", flat=True)
    everything = [session.result, session.patch, session.summary, session.message, str(session.run.snapshot)]
    assert "canary" not in "".join(everything)
    transcript = gzip.decompress((session_folder(session.pk) / "transcript.log.gz").read_bytes())
    assert b"canary" not in transcript


def test_a_secret_that_this_worker_does_not_have_is_said(worker: WorkerHeartbeat, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "canary-47110815"}
    session = queued("true", secrets=["DEPLOY_TOKEN"])
    settings.ROTA_SECRETS = {}
    run_admitted(session, worker)
    assert (session.status, session.reason) == ("failed", "invalid_options")
    assert "DEPLOY_TOKEN" in session.message
