"""The list of sessions and a session's own page: nothing that an agent wrote is trusted."""

from datetime import datetime
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_results.models import TaskResult

from schedules.models import Session, SessionEvent
from tests.schedules.admin.lists import costs_the_same
from tests.schedules.factories import (
    make_event,
    make_repository,
    make_run,
    make_schedule,
    make_session,
    make_worker,
)

LIST = reverse("admin:schedules_session_changelist")
CANARY = "<script>alert('canary')</script>"


def page_of(session: Session, verb: str = "change") -> str:
    return reverse(f"admin:schedules_session_{verb}", args=(session.pk,))


def test_the_list_costs_the_same_queries_whatever_its_length(console: Client, now: datetime) -> None:
    def more(count: int) -> None:
        for _ in range(count):
            make_session(make_run(make_schedule(now=now), now=now), now=now, files_changed=1)

    costs_the_same(console, LIST, more)


def test_a_session_tells_all_there_is_to_know(console: Client, now: datetime) -> None:
    worker = make_worker("sessions@host-1", now=now)
    shop = make_repository("shop")
    run = make_run(make_schedule("nightly", now=now, runner="claude"), now=now, status="running", repository=shop)
    earlier = make_session(run, now=now, status="succeeded")
    task = TaskResult.objects.create(task_id="task-1")
    session = make_session(
        run,
        now=now,
        status="failed",
        reason="exit_code",
        message="It ended with 3.",
        item_key="issue/12",
        worker=worker,
        worker_name=worker.name,
        hostname="host-1",
        pid=4242,
        task_id="task-1",
        model_asked="haiku",
        model="claude-haiku-4-5",
        program_version="2.1.327",
        exit_code=3,
        denied=["Bash(rm -rf /)"],
        resumed_from=earlier,
        prompt="What changed?",
        result="All **good**.",
        structured={"verdict": "fine & <b>well</b>"},
        turns=6,
        input_tokens=12_400,
        cost_usd="0.034",
        branch="rota/nightly/1-1",
        commits=1,
        base_commit="4f2a9c0d1e2f3a",
        patch="diff --git a/x b/x\n@@ -1 +1 @@\n-old\n+new\n",
        files_changed=1,
        insertions=1,
        deletions=1,
        folder="2026/1-1",
    )

    page = console.get(page_of(session)).content.decode()

    for part in (
        *("Non-zero exit code.", "It ended with 3.", "issue/12", "sessions@host-1", "4242", "claude-haiku-4-5"),
        *("asked for haiku", "2.1.327", "Bash(rm -rf /)", "What changed?", "<strong>good</strong>", "12.4k", "$0.03"),
        *("Structured result", "fine &amp; &lt;b&gt;well&lt;/b&gt;"),
        *("rota/nightly/1-1", "4f2a9c0d1e2f", "rota-line-removed", "rota-line-added", "2026/1-1", "shop"),
        reverse("admin:django_celery_results_taskresult_change", args=(task.pk,)),
        reverse("admin:schedules_run_retry", args=(run.pk,)),
        page_of(earlier),
    ):
        assert part in page, part


def test_a_result_that_is_data_alone_is_shown_once(console: Client, now: datetime) -> None:
    data = {"verdict": "fine"}
    alone = make_session(now=now, status="succeeded", result='{"verdict":"fine"}', structured=data)
    beside = make_session(now=now, status="succeeded", result="It is fine.", structured=data)

    only, both = (console.get(page_of(session)).content.decode() for session in (alone, beside))

    assert only.count("verdict") == 1
    assert ">Result<" not in only
    assert "It is fine." in both
    assert "Structured result" in both


def test_a_session_that_is_well_says_what_is_to_be_known_of_it(console: Client, now: datetime) -> None:
    session = make_session(
        now=now,
        status="succeeded",
        message="It begins a new conversation: that of session 3 is damaged.",
        program_version="2.1.330",
        program_before="2.1.327",
    )
    page = console.get(page_of(session)).content.decode()
    assert "that of session 3 is damaged" in page
    assert "2.1.327 → 2.1.330" in page


def test_a_session_page_costs_the_same_queries_whatever_its_transcript(console: Client, now: datetime) -> None:
    short, long = make_session(now=now), make_session(now=now)
    make_event(short, now=now)
    for seq in range(40):
        make_event(long, now=now, seq=seq)
    console.get(page_of(short))
    with CaptureQueriesContext(connection) as few:
        console.get(page_of(short))
    with CaptureQueriesContext(connection) as many:
        console.get(page_of(long))

    assert len(many) == len(few)


def test_the_transcript_is_there_without_javascript(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="running")
    made: list[tuple[str, str, dict[str, Any]]] = [
        ("note", "The workspace is ready.", {}),
        ("init", "", {"model": "claude-haiku-4-5", "tools": ["Read", "Bash"], "version": "2.1"}),
        ("thinking", "I should look first.\nThen act.", {}),
        ("text", "I will **look**.", {}),
        ("tool_use", "", {"name": "Bash", "input": {"command": "git log", "timeout": 5}}),
        ("tool_use", "", {"name": "Odd", "input": {"number": 7}}),
        ("tool_use", "", {"name": "Nothing"}),
        ("tool_result", "first line\nsecond line", {"is_error": False}),
        ("tool_result", "It failed.\nBadly.", {"is_error": True}),
        ("tool_result", "", {}),
        ("usage", "", {"input_tokens": 77_777}),
        ("rate_limit", "", {"status": "allowed_warning"}),
        ("output", "a line", {}),
        ("stderr", "a warning", {}),
        ("error", "The model is away\nTry later", {}),
        ("limit", "The time limit was reached.", {}),
        ("result", "Done **well**.", {"subtype": "success", "is_error": False}),
    ]
    for kind, text, data in made:
        make_event(session, now=now, kind=kind, text=text, data=data)

    page = console.get(page_of(session)).content.decode()

    for part in (
        *("The workspace is ready.", "Started · claude-haiku-4-5 · version 2.1 · 2 tools", "I should look first."),
        *("<strong>look</strong>", "Bash git log", "Odd {&quot;number&quot;: 7}", "second line", "Badly."),
        *("allowed_warning", "a line", "a warning", "The model is away", "Try later", "The time limit was reached."),
        *("Result: success", "<strong>well</strong>", "(nothing)"),
    ):
        assert part in page, part
    assert "77777" not in page
    assert page.count("rota-entry-bad") == 3


def test_a_long_transcript_shows_its_end_and_offers_the_rest(console: Client, now: datetime) -> None:
    session = make_session(now=now)
    SessionEvent.objects.bulk_create(
        SessionEvent(session=session, seq=seq, at=now, kind="output", text=f"line {seq}.") for seq in range(1, 311)
    )

    page = console.get(page_of(session)).content.decode()
    whole = console.get(page_of(session), {"all": ""}).content.decode()

    assert "line 10." not in page
    assert page.index("line 11.") < page.index("line 310.")
    assert "Show all" in page
    assert 'data-rota-after="310"' in page
    assert "line 1." in whole
    assert "Show all" not in whole


def test_no_agent_can_keep_the_server_busy_with_markdown(console: Client, now: datetime) -> None:
    session = make_session(now=now)
    for seq in range(1, 9):
        make_event(session, now=now, seq=seq, text="**word** " * 2000)

    page = console.get(page_of(session)).content.decode()

    assert "<strong>word</strong>" in page
    assert "**word** **word**" in page


def test_nothing_that_an_agent_wrote_becomes_markup(console: Client, now: datetime) -> None:
    hostile = f'{CANARY} [x](javascript:alert(1)) "><img src=x onerror=alert(2)> \u202eexe \x1b[31mred'
    session = make_session(
        make_run(make_schedule(now=now, runner="claude"), now=now, status="running", message=CANARY, summary=CANARY),
        now=now,
        status="failed",
        item_key=CANARY,
        message=hostile,
        result=hostile,
        prompt=hostile,
        summary=hostile,
        model=CANARY,
        model_asked='"><b>',
        activity=hostile[:200],
        denied=[CANARY],
        branch=CANARY,
        folder=CANARY,
        worker_name=CANARY,
        patch=f"{hostile}\ndiff --git a/{CANARY} b/{CANARY}\n@@ -1 +1 @@ {CANARY}\n-{hostile}\n+{hostile}\n",
        files_changed=1,
    )
    for kind in (
        *("note", "init", "text", "thinking", "tool_use", "tool_result", "rate_limit", "output", "stderr"),
        *("error", "result", "limit", CANARY[:20]),
    ):
        data = {"name": CANARY, "input": {"command": CANARY, CANARY: CANARY}, "model": CANARY, "subtype": CANARY}
        make_event(session, now=now, kind=kind, text=hostile, data=data)
    make_event(session, now=now, kind="tool_use", data={"input": CANARY})

    pages = [
        page_of(session),
        LIST,
        reverse("admin:schedules_run_change", args=(session.run_id,)),
        reverse("admin:schedules_run_changelist"),
        reverse("admin:index"),
    ]
    for url in pages:
        page = console.get(url).content.decode()
        for harm in (CANARY, "<img src=x", 'href="javascript:', '"><b>', "\u202e", "\x1b"):
            assert harm not in page, (url, harm)
    assert "&lt;script&gt;alert(" in console.get(page_of(session)).content.decode()


def test_an_open_session_says_where_its_stream_is(console: Client, now: datetime) -> None:
    running, over = make_session(now=now, status="running"), make_session(now=now, status="succeeded")

    assert (
        reverse("admin:schedules_session_events", args=(running.pk,)) in console.get(page_of(running)).content.decode()
    )
    assert "data-rota-live=" not in console.get(page_of(over)).content.decode()


def test_a_session_is_cancelled(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="running")

    asked = console.get(page_of(session, "cancel"))
    untouched = Session.objects.get().cancel_requested_at
    response = console.post(page_of(session, "cancel"), follow=True)

    assert (asked.status_code, untouched) == (200, None)
    assert "It is being cancelled." in response.content.decode()
    after = Session.objects.get()
    assert after.cancel_requested_at
    assert after.cancel_requested_by == "olive"


def test_a_session_that_is_over_is_not_cancelled(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="succeeded")

    assert "It was over already." in console.post(page_of(session, "cancel"), follow=True).content.decode()


def test_who_may_only_look_cancels_nothing(onlooker: Client, now: datetime) -> None:
    session = make_session(now=now, status="running")

    assert page_of(session, "cancel") not in onlooker.get(page_of(session)).content.decode()
    assert onlooker.post(page_of(session, "cancel")).status_code == 403
    assert Session.objects.get().cancel_requested_at is None


def test_a_session_that_is_not_there_is_not_found(console: Client) -> None:
    assert console.get(f"{LIST}999/change/").status_code == 404


def test_a_rehearsed_session_shows_its_report_and_what_is_to_be_mended(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, runner="claude", allowed_tools=["Read"])
    run = make_run(schedule, now=now, status="running", is_rehearsal=True)
    session = make_session(run, now=now, status="failed", reason="denied", message="Denied.")
    make_event(session, now=now, kind="note", data={"prepared": {"fetch": 1.5}, "credentials": ["A_KEY"]})
    make_event(session, now=now, kind="error", data={"denied": f"Bash: {CANARY}"})

    page = console.get(page_of(session)).content.decode()

    for part in ("Rehearsal report", "not ready", "to the allowed tools if it may be used", "Set A_KEY", "1.5 s"):
        assert part in page, part
    assert CANARY not in page


def test_a_cost_that_was_reckoned_is_shown_as_such(console: Client, now: datetime) -> None:
    run = make_run(make_schedule(now=now, runner="claude"), now=now, status="running")
    session = make_session(run, now=now, status="timed_out", turns=3, cost_usd="0.42", cost_source="reckoned")
    run_page = reverse("admin:schedules_run_change", args=(run.pk,))

    for page in (LIST, page_of(session), run_page):
        assert "$0.42 reckoned" in console.get(page).content.decode(), page
