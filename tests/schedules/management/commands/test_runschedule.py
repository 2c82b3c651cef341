"""`runschedule`: queue, follow, tell, and the exit code that scripts rely on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings
from django.core.management import CommandError
from django.db import connection

from schedules.models import Run, Schedule, Session, WorkerHeartbeat
from schedules.steering import cancel_run, pause
from tests.schedules.factories import make_repository, make_run, make_schedule, make_worker
from tests.schedules.management.running import Ended, claim, finishing, run, working

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("broker")]

NOW = datetime.now(UTC)


@pytest.fixture
def greeting() -> Schedule:
    return make_schedule("greeting", now=NOW)


@pytest.fixture
def briefing() -> Schedule:
    """An agent with a variable, in two repositories."""
    repositories = [make_repository("shop"), make_repository("blog")]
    prompt = "Write in the tone {{ var.tone }}."
    return make_schedule(
        "briefing", now=NOW, runner="claude", prompt=prompt, variables={"tone": "plain"}, repositories=repositories
    )


@pytest.fixture
def overlapping(greeting: Schedule) -> Run:
    """A run that is still open, of a schedule whose overlap policy is to skip."""
    return make_run(greeting, now=NOW, status=Run.Status.RUNNING)


def runschedule(*arguments: str) -> Ended:
    return run("runschedule", *arguments)


# --- Waiting for the end ---------------------------------------------------------------------


@pytest.mark.usefixtures("greeting")
@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        ("succeeded", "ok", 0),
        ("failed", "exit_code", 1),
        ("lost", "worker_died", 1),
        ("cancelled", "cancelled", 1),
        ("timed_out", "timed_out", 124),
    ],
)
def test_the_exit_code_says_what_became_of_the_run(status: str, reason: str, code: int) -> None:
    with working(finishing(status, reason, message="So it ended.")):
        ended = runschedule("greeting", "--wait")

    assert ended.code == code
    (recorded,) = Run.objects.all()
    assert recorded.trigger == Run.Trigger.MANUAL
    assert recorded.triggered_by.endswith("(command line)")
    assert f"Run {recorded.pk} {recorded.status}" in ended.err


@pytest.mark.usefixtures("greeting")
def test_it_waits_unless_told_otherwise_and_prints_the_result_as_it_was_written() -> None:
    with working(finishing("succeeded", "ok", result="# Hello\n\n*world* ☼\n")):
        ended = runschedule("greeting")

    assert (ended.code, ended.out) == (0, "# Hello\n\n*world* ☼\n")


@pytest.mark.usefixtures("greeting")
def test_progress_is_a_line_for_each_change_with_the_tool_in_use() -> None:
    two_looks = 0.6  # seconds

    def act(session: Session, worker: WorkerHeartbeat) -> None:
        time.sleep(two_looks)
        claim(session, worker)
        for activity, turns in (("Bash(git log)", 1), ("[red]Read\x1b", 2)):
            Session.objects.progress(session.pk, worker=worker, activity=activity, turns=turns, cost_usd="0.0123")
            time.sleep(two_looks)
        Session.objects.finish(session.pk, status="succeeded", reason="ok", now=datetime.now(UTC))

    with working(act):
        ended = runschedule("greeting")

    (recorded,) = Run.objects.all()
    place = f"run {recorded.pk} prompt: "
    told = [line.removeprefix(place) for line in ended.err.splitlines() if line.startswith(place)]
    assert [line.split(",")[0] for line in told] == ["queued", "running", "running", "succeeded"]
    assert told[1].endswith("1 turn, 0.0123 USD: Bash(git log)")
    assert told[2].endswith("2 turns, 0.0123 USD: [red]Read")


@pytest.mark.usefixtures("greeting")
def test_verbosity_0_shows_no_progress() -> None:
    with working(finishing("succeeded", "ok")):
        ended = runschedule("greeting", "--verbosity", "0")

    assert len(ended.err.splitlines()) == 1


@pytest.mark.usefixtures("briefing")
def test_results_of_several_sessions_have_headings_and_the_worst_decides() -> None:
    def act(session: Session, worker: WorkerHeartbeat) -> None:
        good = session.repository is not None and session.repository.slug == "shop"
        ending = (
            finishing("succeeded", "ok", result="Fine.") if good else finishing("failed", "max_turns", result="Half.")
        )
        ending(session, worker)

    with working(act, sessions=2):
        ended = runschedule("briefing")

    assert ended.code == 1
    assert ended.out == "# blog: prompt\n\nHalf.\n\n# shop: prompt\n\nFine.\n\n"
    assert "in blog failed (max_turns)" in ended.err
    assert "in shop succeeded" in ended.err


@pytest.mark.usefixtures("briefing")
def test_a_rehearsal_says_so(settings: LazySettings) -> None:
    settings.ROTA_REHEARSE = False
    with working(finishing("succeeded", "ok", branch="rota/briefing/1-1", files_changed=1, insertions=2)):
        ended = runschedule("briefing", "--rehearse", "--repository", "shop")

    assert "REHEARSED: a scripted model answered" in ended.err
    assert "left the branch rota/briefing/1-1 (1 file, +2 −0)" in ended.err
    assert Run.objects.get().is_rehearsal


@pytest.mark.usefixtures("briefing")
def test_what_is_no_rehearsal_does_not_say_so(settings: LazySettings) -> None:
    settings.ROTA_REHEARSE = False
    with working(finishing("succeeded", "ok")):
        ended = runschedule("briefing", "--repository", "shop")

    assert "REHEARSED" not in ended.err


def test_a_run_that_is_cancelled_meanwhile_ends_the_wait(greeting: Schedule) -> None:
    def act(session: Session, worker: WorkerHeartbeat) -> None:
        cancel_run(session.run_id, by="bob", now=datetime.now(UTC))

    with working(act):
        ended = runschedule("greeting")

    assert ended.code == 1
    assert "cancelled (cancelled): Cancelled by bob." in ended.err
    assert greeting.runs.get().status == Run.Status.CANCELLED


@pytest.mark.usefixtures("greeting")
def test_a_time_limit_ends_the_wait_and_not_the_run() -> None:
    with working(claim):
        ended = runschedule("greeting", "--timeout", "0.5")

    (recorded,) = Run.objects.all()
    assert ended.code == 124
    assert recorded.is_open
    assert f"Run {recorded.pk} is {recorded.status} and goes on without being watched." in ended.err
    assert "Not over after" in ended.err


# --- Not waiting -----------------------------------------------------------------------------


@pytest.mark.usefixtures("briefing")
def test_without_waiting_it_prints_the_ids_and_leaves_the_rest_to_the_workers() -> None:
    make_worker(now=datetime.now(UTC))

    ended = runschedule("briefing", "--no-wait")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.split() == [str(pk) for pk in Run.objects.order_by("pk").values_list("pk", flat=True)]
    assert Session.objects.filter(admitted_at__isnull=False).exists(), "it was handed to the broker"


@pytest.mark.usefixtures("greeting")
def test_without_waiting_a_missing_worker_is_a_word_and_no_failure() -> None:
    ended = runschedule("greeting", "--no-wait")

    assert ended.code == 0
    assert ended.err == "No “sessions” worker is alive. Start Rota with bin/up: until then it stays queued.\n"


# --- For programs ----------------------------------------------------------------------------


@pytest.mark.usefixtures("greeting")
def test_json_is_one_object_and_nothing_else() -> None:
    with working(finishing("failed", "exit_code", message="It failed.", result="Half.", turns=3, cost_usd="0.5")):
        ended = runschedule("greeting", "--json")

    told = ended.object
    (recorded,) = told["runs"]
    (session,) = recorded["sessions"]
    assert (ended.code, told["exit_code"]) == (1, 1)
    assert (recorded["status"], recorded["reason"], recorded["turns"]) == ("failed", "exit_code", 3)
    assert (session["result"], session["cost_usd"], session["message"]) == ("Half.", 0.5, "It failed.")


@pytest.mark.usefixtures("greeting")
def test_json_without_waiting_tells_what_is_queued() -> None:
    make_worker(now=datetime.now(UTC))

    told = runschedule("greeting", "--json", "--no-wait").object

    assert (told["exit_code"], told["runs"][0]["status"]) == (0, "queued")


def test_json_tells_errors_too(greeting: Schedule, overlapping: Run) -> None:
    assert runschedule("greting", "--json").object == {
        "exit_code": 3,
        "message": "There is no schedule “greting”. Did you mean greeting?",
    }
    refused = runschedule("greeting", "--json").object
    assert (refused["exit_code"], refused["reason"]) == (4, "overlap")


# --- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["brefing"], 3, "There is no schedule “brefing”. Did you mean briefing or greeting?"),
        (["xyz"], 3, "There is no schedule “xyz”. bin/manage schedule list shows those there are."),
        (["briefing", "--var", "tune=x"], 2, "briefing has no variable “tune”. Did you mean tone?"),
        (["briefing", "--var", "x=y"], 2, "briefing has no variable “x”. There are: tone."),
        (["briefing", "--repository", "shp"], 2, "briefing does not run in the repository “shp”. Did you mean shop?"),
        (["greeting", "--repository", "shop"], 2, "greeting does not run in the repository “shop”. There are: none."),
        (["greeting", "--rehearse"], 2, "greeting runs a script and no agent: there is nothing to rehearse."),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    greeting: Schedule, briefing: Schedule, arguments: list[str], code: int, message: str
) -> None:
    ended = runschedule(*arguments)

    assert (ended.code, ended.err, ended.out) == (code, message + "\n", "")
    assert not Run.objects.exists()


def test_where_there_is_no_schedule_at_all_the_examples_are_named() -> None:
    assert "There is none yet: bin/manage loadexamples." in runschedule("x").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["briefing", "--var", "tone"], "“tone” is not KEY=VALUE"),
        (["briefing", "--var", "=x"], "“=x” is not KEY=VALUE"),
        (["briefing", "--timeout", "0"], "“0” is not a number of seconds above 0"),
        (["briefing", "--timeout", "nan"], "“nan” is not a number of seconds above 0"),
        (["briefing", "--timeout", "1e30"], "“1e30” is not a number of seconds above 0"),
        (["briefing", "--wait", "--no-wait"], "not allowed with argument"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        runschedule(*arguments)


def test_policy_refuses_a_disabled_schedule(greeting: Schedule) -> None:
    Schedule.objects.filter(pk=greeting.pk).update(
        status=Schedule.Status.DISABLED, status_reason="too dear", next_run_at=None, due_at=None
    )

    ended = runschedule("greeting")

    assert (ended.code, ended.err) == (4, "greeting is disabled: too dear. Enable it to run it.\n")


def test_policy_refuses_what_overlaps(greeting: Schedule, overlapping: Run) -> None:
    ended = runschedule("greeting")

    assert ended.code == 4
    assert f"Run {overlapping.pk} is still running; the overlap policy is to skip." in ended.err
    assert greeting.runs.count() == 1


def test_a_paused_schedule_can_be_run_by_hand(greeting: Schedule) -> None:
    pause(Schedule.objects.filter(pk=greeting.pk), by="bob", reason="holidays", now=NOW)

    with working(finishing("succeeded", "ok")):
        assert runschedule("greeting").code == 0


def test_variables_hold_for_this_run_alone(briefing: Schedule) -> None:
    make_worker(now=datetime.now(UTC))

    runschedule("briefing", "--no-wait", "--var", "tone=a=b", "--repository", "shop", "--repository", "blog")

    assert [recorded.variables for recorded in Run.objects.all()] == [{"tone": "a=b"}] * 2
    briefing.refresh_from_db()
    assert briefing.variables == {"tone": "plain"}


# --- Infrastructure --------------------------------------------------------------------------


@pytest.mark.usefixtures("greeting")
def test_without_a_worker_it_gives_up_and_the_run_stays_queued() -> None:
    make_worker(now=NOW - timedelta(hours=1))
    make_worker(now=datetime.now(UTC), kind="control")
    make_worker(now=datetime.now(UTC), stopped_at=datetime.now(UTC))

    ended = runschedule("greeting", "--worker-wait", "0.5")

    (recorded,) = Run.objects.all()
    assert ended.code == 5
    assert recorded.status == Run.Status.QUEUED
    assert ended.err.splitlines()[-2:] == [
        f"Run {recorded.pk} is queued and goes on without being watched.",
        "No “sessions” worker is alive. Start Rota with bin/up.",
    ]
    assert "No “sessions” worker is alive. Start Rota with bin/up (giving up in" in ended.err


@pytest.mark.usefixtures("greeting")
def test_a_worker_that_comes_in_time_is_waited_for() -> None:
    def act(session: Session, worker: WorkerHeartbeat) -> None:
        WorkerHeartbeat.objects.update(stopped_at=datetime.now(UTC))
        time.sleep(0.8)
        WorkerHeartbeat.objects.update(stopped_at=None)
        finishing("succeeded", "ok")(session, worker)

    with working(act):
        assert runschedule("greeting", "--worker-wait", "10").code == 0


@pytest.mark.usefixtures("greeting")
def test_without_a_broker_it_gives_up(settings: LazySettings) -> None:
    make_worker(now=datetime.now(UTC))
    settings.CELERY_BROKER_URL = "redis+socket:///nowhere/valkey.sock"

    ended = runschedule("greeting", "--worker-wait", "0.1", "--json")

    told = ended.object
    assert ended.code == told["exit_code"] == 5
    assert told["message"] == "The broker does not answer. Start Rota with bin/up, or check REDIS_URL."
    assert told["runs"][0]["status"] == "queued"


@pytest.mark.usefixtures("greeting")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no connection to lose")
def test_a_database_that_goes_away_for_a_moment_does_not_end_the_wait() -> None:
    def act(session: Session, worker: WorkerHeartbeat) -> None:
        claim(session, worker)
        time.sleep(0.5)  # by now it follows
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        time.sleep(0.6)
        Session.objects.finish(session.pk, status="succeeded", reason="ok", now=datetime.now(UTC))

    with working(act):
        assert runschedule("greeting").code == 0
