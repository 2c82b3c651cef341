"""What became of all rows in one step, compared with the book: nothing changed but what the step may change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from schedules.models import Hold, Schedule, Session, Spending
from schedules.waiting import Waiting, waiting
from tests.faults.book import Book
from tests.faults.entries import SPREAD, Row, RunRow


@dataclass
class Doing:
    """What a step may change of rows that it did not make. Everything else stays as it is."""

    admitted: set[int] = field(default_factory=set)
    released: set[int] = field(default_factory=set)
    claimed: set[int] = field(default_factory=set)
    given_back: set[int] = field(default_factory=set)
    ended: dict[int, tuple[str, str, Decimal | None]] = field(default_factory=dict)  # status, reason, cost
    late: set[int] = field(default_factory=set)
    cancels: set[str] = field(default_factory=lambda: {"paused"})  # reasons for which what waits is cancelled
    makes_runs: bool = False


def compare(book: Book, doing: Doing) -> None:
    """Look at every row; afterwards the book has them as they are."""
    sessions, runs = book.read_sessions(), book.read_runs()
    by_rota = _look_at_schedules(book, doing, runs)
    for pk, before in book.sessions.items():
        after = sessions[pk]
        if before == after:
            continue
        _look_at_change(book, doing, before, after, sessions)
        if before.status == "running" and not after.is_open and before.schedule not in by_rota:
            another = [row for row in sessions.values() if row.retry_of == pk]
            wanted = book.wants_another(before, after.reason)
            assert len(another) == wanted, f"{after} has {len(another)} further attempts"
    for pk, row in sessions.items():
        if pk not in book.sessions:
            _look_at_new(book, doing, row, runs, sessions)
    for pk, row in sessions.items():
        was = book.sessions.get(pk)
        if not row.is_open and (was is None or was.is_open):
            assert row.finished_at == book.now
            book.spent[book.now.date(), row.schedule, row.repository] += row.cost
    was_open = {pk for pk, run in book.runs.items() if run.is_open}
    before_runs, book.sessions, book.runs = book.runs, sessions, runs
    for pk, run in runs.items():
        assert pk in was_open or pk not in before_runs or run == before_runs[pk], f"{run} was over"
        _look_at_run(book, doing, run, is_new=pk not in before_runs, was_open=pk in was_open)
    _look_at_holds(book)


def _look_at_schedules(book: Book, doing: Doing, runs: Mapping[int, RunRow]) -> set[int]:
    """Which of them Rota paused or broke by itself."""
    changed = set()
    for pk, status in Schedule.objects.values_list("pk", "status"):
        if status == book.terms[pk].status:
            continue
        failed = any(
            run.schedule == pk and run.status == "failed" and run.trigger == "schedule" and book.runs[run.pk].is_open
            for run in runs.values()
            if run.pk in book.runs
        )
        is_broken = status == "broken" and doing.makes_runs
        assert (status == "paused" and failed) or is_broken, f"{pk} became {status}"
        book.terms[pk].status = status
        changed.add(pk)
    return changed


def _look_at_change(book: Book, doing: Doing, before: Row, after: Row, sessions: Mapping[int, Row]) -> None:
    pk = after.pk
    told = f"{before} became {after}"
    if not before.is_open:
        assert pk in doing.late, told
        assert before.late_report is None, told
        assert before == after._replace(late_report=None), told
        return
    match before.status, after.status:
        case "queued", "queued":
            if before.admitted_at is None and after.admitted_at:
                assert pk in doing.admitted, told
            elif before.admitted_at and after.admitted_at is None:
                assert pk in doing.released or book.shut_by(before, ()), told
        case "queued", "running":
            assert pk in doing.claimed, told
            assert after.claimed_at == book.now, told
        case "running", "running":
            assert before.admitted_at == after.admitted_at, told
        case "running", "queued":
            assert pk in doing.given_back, told
            assert (after.admitted_at, after.worker, after.claimed_at) == (None, None, None), told
        case "running", _:
            status, reason, cost = doing.ended[pk]
            assert (after.status, after.reason) == (status, reason), told
            assert after.cost == (before.cost if cost is None else cost), told
        case "queued", "cancelled" if pk in doing.given_back or after.reason in doing.cancels:
            if after.reason == "paused":  # also where its run was one failure too many
                assert not book.is_on_the_rota(after), told
            if after.reason == "budget":
                taken = [row for row in sessions.values() if row.is_in_flight]
                assert not any(row.run == after.run for row in taken), told
                assert book.is_short(after.run, after.reserved, taken), told
        case _:
            raise AssertionError(told)


def _look_at_new(book: Book, doing: Doing, row: Row, runs: Mapping[int, RunRow], sessions: Mapping[int, Row]) -> None:
    assert row.status == "queued" or (row.status == "cancelled" and row.reason in doing.cancels), f"{row} is new"
    if row.retry_of is None:
        assert doing.makes_runs, f"{row} came of nothing"
        terms = book.terms[row.schedule]
        assert row.credential == ("" if row.is_rehearsal else terms.credential), row
        assert row.reserved == terms.reserves(is_rehearsal=row.is_rehearsal), row
        return
    first = sessions[row.retry_of]
    was = book.sessions.get(first.pk)
    assert was is not None, f"{row} is a retry of {first}"
    assert (was.status, first.is_open) == ("running", False), f"{row} is a retry of {first}"
    same = ("run", "schedule", "repository", "number", "credential", "model", "is_rehearsal", "reserved", "priority")
    assert [getattr(row, name) for name in same] == [getattr(first, name) for name in same]
    assert row.attempt == first.attempt + 1
    assert row.not_before is not None
    assert row.not_before >= book.now


def _look_at_run(book: Book, doing: Doing, run: RunRow, *, is_new: bool, was_open: bool) -> None:
    sessions = book.of_run(run.pk)
    if is_new and run.is_open:
        assert doing.makes_runs, f"{run} came of nothing"
        assert sessions, f"{run} has no session"
        assert not book.is_stopped, f"{run} came while all is stopped"
        if run.trigger == "schedule":
            assert book.terms[run.schedule].status == "active", run
    if any(row.is_open for row in sessions):
        assert run.is_open, f"{run} is settled, and its sessions are not over: {sessions}"
        book.unsettled.discard(run.pk)
    elif run.is_open:
        assert run.pk in book.unsettled, f"{run} is not settled, and its sessions are over: {sessions}"
    else:
        book.unsettled.discard(run.pk)
        if sessions and (was_open or is_new):
            assert (run.status, run.cost) == book.verdict(run.pk), f"{run} of {sessions}"
            assert run.finished_at == book.now


def _look_at_holds(book: Book) -> None:
    holds = {hold.credential: hold for hold in Hold.objects.all()}
    for name in {*holds, *book.held}:
        mine, theirs = book.held[name], holds.get(name) or Hold(credential=name)
        assert mine.failures == theirs.failures, f"{name}: {mine}"
        if mine.until and mine.is_shut(book.now):
            assert theirs.until is not None, f"{name}: {mine}"
            assert mine.until <= theirs.until <= mine.until + SPREAD, f"{name}: {mine}"
            mine.until = theirs.until  # its share of the spread
        else:
            assert theirs.until is None or theirs.until <= book.now, f"{name}: {mine}"
    for row in book.in_flight():
        assert row.status == "running" or not book.shut_by(row, ()), f"{row} was handed out, and nobody is let in"


def look_at_spending() -> None:
    """What is settled is what the sessions that are over cost."""
    over = Session.objects.exclude(status__in=Session.OPEN)
    cost = _summed(over.values_list("schedule_id", "repository_id", "cost_usd"))
    settled = _summed(Spending.objects.values_list("schedule_id", "repository_id", "cost_usd"))
    assert {key: one for key, one in settled.items() if key[0] is not None} == cost
    assert settled[None, None] == sum(cost.values())


def _summed(rows: Iterable[tuple[int | None, int | None, Decimal]]) -> dict[tuple[int | None, int | None], Decimal]:
    sums: defaultdict[tuple[int | None, int | None], Decimal] = defaultdict(Decimal)
    for schedule, repository, cost in rows:
        if cost:
            sums[schedule, repository] += cost
    return sums


def look_at_what_is_told(book: Book) -> None:
    """Each that waits says something that is so, and its place."""
    queued = list(Session.objects.filter(status="queued"))
    found = waiting(queued, now=book.now)
    order = [row.pk for row in book.waiting()]
    taken = book.in_flight()
    assert set(found) == {one.pk for one in queued}
    for pk, told in found.items():
        row = book.sessions[pk]
        assert told.is_at_once == book.is_claimable(row), f"{row} is told “{told.why}”"
        if row.admitted_at is None:
            assert (told.place, told.of) == ((order.index(pk) + 1, len(order)) if pk in order else (0, 0))
            _look_at_why(book, row, told, taken)


def _look_at_why(book: Book, row: Row, told: Waiting, taken: list[Row]) -> None:
    true = book.halts(row) or book.obstacles(row, taken) or {"for its turn": None}
    until = [at for words, at in true.items() if told.why.startswith(words)]
    assert until, f"{row} is told “{told.why}”, and waits for {list(true)}"
    assert told.until in until, f"{row} is told “{told.why}” until {told.until}, and that is {until}"
