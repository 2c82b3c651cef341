"""A service that lets nobody in holds its sessions back, and not for longer than needed."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from schedules import quota
from schedules.limits import admit
from schedules.models import Hold, Incident, Session
from tests.schedules.factories import make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SPREAD = timedelta(seconds=3)


def fail(*, now: datetime = NOW, reason: str = "overloaded", resets_at: datetime | None = None) -> None:
    quota.report("anthropic", reason=reason, answered=False, resets_at=resets_at, now=now)


def succeed(*, now: datetime = NOW) -> None:
    quota.report("anthropic", reason="ok", answered=True, now=now)


def hold() -> Hold:
    return Hold.objects.get(credential="anthropic")


def agents(count: int, **fields: str) -> list[Session]:
    made = {"credential": "anthropic", **fields}
    return [make_session(make_run(make_schedule(now=NOW), now=NOW), now=NOW, **made) for _ in range(count)]


def admitted(now: datetime) -> list[int]:
    """With a worker that is alive at that time."""
    make_worker(now=now, concurrency=10)
    return admit(now=now)


# --- Whose quota --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runner", "secrets", "credential"),
    [
        ("claude", [], "anthropic"),
        ("claude", ["NPM_TOKEN"], "anthropic"),
        ("claude", ["CLAUDE_CODE_OAUTH_TOKEN"], "anthropic/CLAUDE_CODE_OAUTH_TOKEN"),
        ("codex", [], "openai"),
        ("codex", ["OPENAI_API_KEY"], "openai/OPENAI_API_KEY"),
        ("script", [], ""),
    ],
)
def test_the_credential_is_the_provider_or_a_secret_that_lets_in_instead(
    runner: str, secrets: list[str], credential: str
) -> None:
    run = make_run(make_schedule(now=NOW, runner=runner, secrets=secrets), now=NOW)
    assert quota.credential_of(run) == credential


def test_a_rehearsal_draws_on_nobodys_quota() -> None:
    assert quota.credential_of(make_run(make_schedule(now=NOW, runner="claude"), now=NOW, is_rehearsal=True)) == ""


# --- A quota with a time ------------------------------------------------------------------------


def test_a_quota_that_is_given_anew_in_63_seconds_holds_63_seconds() -> None:
    first, second, other = *agents(2), *agents(1, credential="openai")
    anew = NOW + 63 * SECOND
    fail(reason="rate_limited", resets_at=anew)

    assert anew <= (hold().until or NOW) <= anew + SPREAD
    assert admitted(anew - SECOND) == [other.pk]
    assert admitted(anew + SPREAD) == [first.pk, second.pk]


def test_the_longer_of_two_quotas_holds() -> None:
    fail(reason="rate_limited", resets_at=NOW + timedelta(days=2))
    fail(reason="rate_limited", resets_at=NOW + timedelta(hours=1))
    assert (hold().until or NOW) >= NOW + timedelta(days=2)


def test_a_time_in_the_past_holds_nothing_and_counts_as_overload() -> None:
    for _ in range(2):
        fail(reason="rate_limited", resets_at=NOW - SECOND)
        assert hold().until is None
    fail(reason="rate_limited", resets_at=NOW - SECOND)
    assert (hold().until or NOW) <= NOW + timedelta(minutes=1) + SPREAD
    assert "The time it gave for that lay in the past." in hold().reason


def test_a_time_beyond_eight_days_is_tried_again_after_these() -> None:
    fail(reason="rate_limited", resets_at=NOW + timedelta(days=400))
    assert (hold().until or NOW) <= NOW + timedelta(days=8) + SPREAD
    assert hold().reason == "Its quota is said to be used up for longer than 8 days: tried again after these."


def test_one_who_had_begun_before_and_succeeds_lifts_no_quota() -> None:
    fail(reason="rate_limited", resets_at=NOW + timedelta(hours=1))
    succeed()
    assert hold().until is not None


def test_a_quota_of_one_model_holds_those_that_ask_for_it_and_nobody_else() -> None:
    anew = NOW + timedelta(days=3)
    quota.hold_until("anthropic", anew, model="opus", now=NOW)
    fail(reason="rate_limited", resets_at=anew)  # the end of the session that was told
    agents(1, model_asked="claude-opus-4-5")
    other = agents(1, model_asked="haiku")[0]

    assert Hold.objects.values_list("credential", flat=True).get() == "anthropic:opus"
    assert admitted(NOW) == [other.pk]
    assert admitted(NOW) == []
    assert Incident.objects.get().subject == "anthropic:opus"
    assert quota.recover(now=anew + SPREAD) == 1
    assert len(admitted(anew + SPREAD)) == 1


@pytest.mark.parametrize("model", ["", "opus"])
def test_who_was_handed_to_the_workers_and_is_not_claimed_waits_again(model: str) -> None:
    asking = {"model_asked": "claude-opus-4-5"}
    claimed, handed = agents(2, **asking)
    other, elsewhere = *agents(1, model_asked="haiku"), *agents(1, credential="openai")
    assert len(admitted(NOW)) == 4
    worker = make_worker(now=NOW)
    assert Session.objects.claim(claimed.pk, worker=worker, task_id="", now=NOW)

    quota.hold_until("anthropic", NOW + timedelta(hours=1), model=model, now=NOW)

    assert not Session.objects.claim(handed.pk, worker=worker, task_id="", now=NOW)
    assert Session.objects.claim(other.pk, worker=worker, task_id="", now=NOW) is bool(model)
    assert Session.objects.claim(elsewhere.pk, worker=worker, task_id="", now=NOW)
    assert Session.objects.get(pk=claimed.pk).status == "running"


def test_a_quota_is_told_of_once_and_recovers() -> None:
    anew = NOW + timedelta(hours=1)
    fail(reason="rate_limited", resets_at=anew)
    fail(reason="rate_limited", resets_at=anew)

    incident = Incident.objects.open().get()
    assert (incident.kind, incident.subject) == ("provider_held", "anthropic")
    assert incident.message.startswith("anthropic lets nobody in until 2027-01-04 10:00:0")
    assert incident.message.endswith("Its quota is used up.")
    assert quota.recover(now=anew - SECOND) == 0
    assert quota.recover(now=anew + SPREAD) == 1
    assert quota.recover(now=anew + SPREAD) == 0
    assert not Incident.objects.open().exists()
    assert hold().until is None


# --- The circuit breaker ------------------------------------------------------------------------


def test_it_opens_after_three_failures_in_a_row() -> None:
    fail()
    fail(reason="api_error")
    succeed()
    fail()
    fail(reason="rate_limited")
    assert hold().until is None
    fail()
    assert NOW + timedelta(minutes=1) <= (hold().until or NOW) <= NOW + timedelta(minutes=1) + SPREAD
    assert "3 sessions in a row failed" in Incident.objects.open().get().message


@pytest.mark.parametrize("reason", ["exit_code", "max_turns", "timed_out", "cancelled", "auth"])
def test_what_says_nothing_of_the_service_counts_neither_way(reason: str) -> None:
    fail()
    fail()
    fail(reason=reason)
    assert (hold().failures, hold().until) == (2, None)


def test_it_stays_open_twice_as_long_each_time_and_half_an_hour_at_most() -> None:
    now = NOW
    minutes = []
    for _ in range(3):
        fail(now=now)
    for _ in range(7):
        until = hold().until
        assert until is not None
        minutes.append(round((until - now) / timedelta(minutes=1)))
        now = until
        fail(now=now)
    assert minutes == [1, 2, 4, 8, 16, 30, 30]


def test_those_that_were_running_when_it_opened_make_it_no_longer() -> None:
    for _ in range(12):
        fail()
    assert hold().failures == 3


def test_half_open_one_session_tries_and_its_success_lets_all_in() -> None:
    first, *others = agents(4)
    for _ in range(3):
        fail()
    again = NOW + timedelta(minutes=2)
    assert admitted(NOW) == []
    assert admitted(again) == [first.pk]
    assert admitted(again) == []

    quota.answered("anthropic", now=again)
    assert admitted(again) == [session.pk for session in others]
    assert not Incident.objects.open().exists()


def test_one_that_ran_since_before_it_opened_does_not_try() -> None:
    make_session(now=NOW, status="running", credential="anthropic", admitted_at=NOW - SECOND)
    first = agents(2)[0]
    for _ in range(3):
        fail()
    assert admitted(NOW + timedelta(minutes=2)) == [first.pk]


def test_a_time_that_the_service_gives_goes_before_the_breakers() -> None:
    for _ in range(3):
        fail()
    fail(reason="rate_limited", resets_at=NOW + 10 * SECOND)
    assert (hold().until or NOW) <= NOW + 10 * SECOND + SPREAD
    assert hold().failures == 0


def test_a_failure_after_a_quota_was_given_anew_begins_to_count() -> None:
    fail(reason="rate_limited", resets_at=NOW + SECOND)
    fail(now=NOW + 10 * SECOND)
    assert (hold().failures, hold().until) == (1, None)
    assert not Incident.objects.open().exists()


# --- Lifting, and what it costs -----------------------------------------------------------------


def test_a_person_lifts_a_hold() -> None:
    session = agents(1)[0]
    fail(reason="rate_limited", resets_at=NOW + timedelta(days=3))
    assert quota.lift("anthropic", by="ada", now=NOW)
    assert not quota.lift("anthropic", by="ada", now=NOW)
    assert not Incident.objects.open().exists()
    assert admitted(NOW) == [session.pk]


@pytest.mark.parametrize(("credential", "queries"), [("", 0), ("anthropic", 1)])
def test_a_success_costs_one_query_and_none_without_a_credential(
    credential: str, queries: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(queries):
        quota.report(credential, reason="ok", answered=True, now=NOW)


def test_a_circuit_that_nobody_is_left_to_try_is_not_told_of_for_ever() -> None:
    for _ in range(3):
        fail()
    (session,) = agents(1)
    late = NOW + timedelta(hours=2)
    quota.recover(now=late)
    assert Incident.objects.open().exists()

    session.delete()
    quota.recover(now=late)

    assert not Incident.objects.open().exists()
    assert hold().failures == 3
