"""Look at schedules, and take them off the rota and back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import CommandParser
from django.utils import timezone
from rich.table import Table
from rich.text import Text

from schedules import backfilling, timetable
from schedules.firing import Refused
from schedules.management.exits import Exit, ExitingCommand, Stop, named_schedule, whoever
from schedules.management.streams import one_line, printable
from schedules.management.tables import listing, show
from schedules.models import Repository, Schedule
from schedules.rendering import durations
from schedules.rendering.display import counted, held_back, no_further
from schedules.steering import pause, resume
from schedules.tasks import dispatch

_EPILOG = """\
exit codes:
  0  done
  2  usage
  3  there is no schedule of that name
  4  refused: a disabled schedule can't be paused, one that can't be read can't be resumed, a range can't be filled in
  5  infrastructure: no database, migrations missing
"""


class Command(ExitingCommand):
    help = "List and show schedules, show when they run next, pause and resume them, fill in times that have passed."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listing = verbs.add_parser("list", help="all schedules")
        listing.add_argument("--json", action="store_true", dest="as_json", help="print a JSON list")
        for verb, what in (
            ("show", "one schedule with its settings"),
            ("next", "when it runs next"),
            ("pause", "take it off the rota; it can still be run by hand"),
            ("resume", "put it back on the rota; the past is not run"),
            ("backfill", "list the due times of a range that did not succeed; with --yes, run them"),
            ("cancel-backfill", "end all of a schedule's backfill that is open"),
        ):
            verbs.add_parser(verb, help=what).add_argument("name", metavar="NAME")
        verbs.choices["next"].add_argument("--count", type=_count, default=10, help="how many times (default: 10)")
        _range_arguments(verbs.choices["backfill"])
        verbs.choices["pause"].add_argument("--reason", required=True, help="why, for whoever wonders later")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"]
        if verb == "list":
            self._list(options)
            return
        schedule = named_schedule(options["name"])
        {
            "show": self._show,
            "next": self._next,
            "pause": self._pause,
            "resume": self._resume,
            "backfill": self._backfill,
            "cancel-backfill": self._cancel_backfill,
        }[verb](schedule, options)

    def _list(self, options: Mapping[str, Any]) -> None:
        schedules = list(Schedule.objects.order_by("name"))
        if options["as_json"]:
            print(json.dumps([_as_object(schedule) for schedule in schedules], indent=2), file=self.results)
            return
        if not schedules:
            print("There is no schedule yet: bin/manage loadexamples makes some.", file=self.notices)
            return
        now = timezone.now()
        rows = [(one.name, one.status, _cadence(one), _next(one, now), _last(one)) for one in schedules]
        table = listing(("name", "status", "cadence", "next run", "last outcome"), rows)
        show(table, on=self.results, options=options)

    def _show(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        table = Table.grid(padding=(0, 2))
        for label, text in _facts(schedule, timezone.now()):
            table.add_row(Text(label, style="bold"), Text(printable(text)))
        show(table, on=self.results, options=options)

    def _next(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        """As it would fire, also while it is paused."""
        now = timezone.now()
        times = schedule.upcoming(now, options["count"])
        for instant in times:
            print(f"{_local(instant, schedule)}  {_until(instant - now)}", file=self.results)
        if not times:
            told = "; ".join(filter(None, (_cadence(schedule), no_further(schedule))))
            print(f"{schedule} has no further time: {told}.", file=self.notices)
        elif schedule.status != Schedule.Status.ACTIVE:
            print(f"{schedule} is {schedule.status}: none of these will run.", file=self.notices)

    def _pause(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        if schedule.status == Schedule.Status.DISABLED:
            raise Stop(Exit.REFUSED, f"{schedule} is disabled, which is more than paused. Resume it first.")
        paused = pause([schedule], by=whoever(), reason=options["reason"], now=timezone.now())
        print(f"{schedule} is paused{'' if paused else ' already'}.", file=self.notices)

    def _resume(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        now = timezone.now()
        try:
            resumed = resume([schedule], by=whoever(), now=now)
        except timetable.TimetableError as error:
            raise Stop(Exit.REFUSED, f"{schedule} can't be resumed: {error}") from error
        schedule.refresh_from_db()
        already = "" if resumed else " already"
        print(f"{schedule} is active{already}. Next run: {_next(schedule, now)}.", file=self.notices)

    def _backfill(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        now = timezone.now()
        since = _instant(options["since"], schedule)
        until = _instant(options["until"], schedule) if options["until"] else now
        places = _places(schedule, options["repository"])
        try:
            plan = backfilling.preview(schedule, since=since, until=until, repositories=places, now=now)
            listed, left = plan.runs, plan.left
            found = f"{counted(len(listed), 'run')}; {plan.done} succeeded or are open already."
            told = f"{found} Nothing was done: add --yes."
            if options["yes"]:
                runs, left = backfilling.backfill(
                    schedule, since=since, until=until, repositories=places, by=whoever(), now=now
                )
                dispatch()
                listed = [(run.scheduled_for, run.repository) for run in runs]
                told = f"{counted(len(listed), 'run')} queued, one after another."
        except (Refused, timetable.TimetableError) as refused:
            raise Stop(Exit.REFUSED, str(refused)) from refused
        for time, place in listed:
            print(f"{_local(time, schedule)}{f'  {place}' if place else ''}", file=self.results)
        print(told + (f" {left} are left for the next time." if left else ""), file=self.notices)

    def _cancel_backfill(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        cancelled = backfilling.cancel_backfill(schedule, by=whoever(), now=timezone.now())
        dispatch()
        print(f"{counted(cancelled, 'run')} cancelled.", file=self.notices)


def _as_object(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "status": schedule.status,
        "status_reason": schedule.status_reason,
        "runner": schedule.runner,
        "cron": schedule.cron,
        "at": schedule.at.isoformat() if schedule.at else None,
        "max_runs": schedule.max_runs,
        "fired_count": schedule.fired_count,
        "time_zone": schedule.time_zone,
        "cadence": _cadence(schedule),
        "next_run_at": schedule.next_run_at.isoformat() if schedule.next_run_at else None,
        "last_run_at": schedule.last_run_at.isoformat() if schedule.last_run_at else None,
        "last_status": schedule.last_status,
        "run_count": schedule.run_count,
    }


def _facts(schedule: Schedule, now: datetime) -> list[tuple[str, str]]:
    """Label and text, what is empty left out."""
    status = " ".join(filter(None, (schedule.status, schedule.status_reason and f"({schedule.status_reason})")))
    facts = [
        ("name", schedule.name),
        ("description", schedule.description),
        ("status", status),
        ("runner", schedule.runner),
        ("model", schedule.model),
        ("target", schedule.get_target_display()),
        ("command", str(schedule.command or "")),
        ("prompt", schedule.prompt),
        ("function", schedule.function),
        ("command line", "\n".join(schedule.argv)),
        ("allowed tools", ", ".join(schedule.allowed_tools)),
        ("variables", "\n".join(f"{name}={value}" for name, value in schedule.variables.items())),
        ("repositories", ", ".join(repository.slug for repository in schedule.repositories.all())),
        ("cadence", f"{_cadence(schedule)} ({schedule.time_zone})"),
        ("next run", _next(schedule, now)),
        ("fires", held_back(schedule)),
        ("last run", _local(schedule.last_run_at, schedule) if schedule.last_run_at else ""),
        ("last outcome", _last(schedule)),
        ("runs", str(schedule.run_count)),
        ("due times that ran", _fired(schedule)),
        ("starts", _local(schedule.starts_at, schedule) if schedule.starts_at else ""),
        ("ends", _local(schedule.ends_at, schedule) if schedule.ends_at else ""),
        ("limits", _limits(schedule)),
        ("overlap policy", schedule.get_overlap_display()),
        ("catch-up window", durations.write(schedule.catch_up)),
        ("tried anew", _retry(schedule)),
        ("paused after", f"{schedule.pause_after} due times in a row that failed" if schedule.pause_after else ""),
    ]
    return [(label, text) for label, text in facts if text]


def _retry(schedule: Schedule) -> str:
    if schedule.retry == Schedule.Retry.NONE:
        return "after an interruption" if schedule.continue_interrupted else ""
    return f"{schedule.get_retry_display()}, up to {schedule.retry_attempts} times"


def _limits(schedule: Schedule) -> str:
    limits = [f"{durations.write(schedule.timeout)} per session"]
    if schedule.max_turns:
        limits.append(f"{schedule.max_turns} turns")
    if schedule.max_budget_usd is not None:
        limits.append(f"{schedule.max_budget_usd} USD")
    if schedule.max_run_usd is not None:
        limits.append(f"{schedule.max_run_usd} USD per run")
    if pools := ", ".join(schedule.pools.values_list("name", flat=True)):
        limits.append(f"in {pools} with weight {schedule.weight}")
    return ", ".join(limits)


def _fired(schedule: Schedule) -> str:
    return f"{schedule.fired_count} of {schedule.max_runs}" if schedule.max_runs else ""


def _range_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--from", required=True, dest="since", metavar="TIME", help="such as 2027-01-31T09:00, in the schedule's zone"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="the last one; by default, now")
    parser.add_argument("--repository", metavar="SLUG", help="only in this one")
    parser.add_argument("--yes", action="store_true", help="queue the runs, instead of listing them")


def _instant(text: str, schedule: Schedule) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(schedule.time_zone))
    except ZoneInfoNotFoundError as error:
        told = f"There is no time zone {schedule.time_zone}: mend the schedule first."
        raise Stop(Exit.REFUSED, told) from error
    except ValueError as error:
        raise Stop(Exit.USAGE, f"“{text}” is not a time. Write it like 2027-01-31 or 2027-01-31T09:00.") from error


def _places(schedule: Schedule, slug: str | None) -> list[Repository] | None:
    if slug is None:
        return None
    found = schedule.repositories.filter(slug=slug).first()
    if found is None:
        slugs = ", ".join(schedule.repositories.values_list("slug", flat=True)) or "none"
        raise Stop(Exit.USAGE, f"{schedule} has no repository “{slug}”. It has: {slugs}.")
    return [found]


def _cadence(schedule: Schedule) -> str:
    """When it runs in words, or its cron line as it is where that can't be read."""
    if schedule.at:
        return f"once, {_local(schedule.at, schedule)}"
    if not schedule.cron:
        return "only by hand"
    try:
        return schedule.in_words()
    except timetable.TimetableError:
        return one_line(schedule.cron)


def _next(schedule: Schedule, now: datetime) -> str:
    if schedule.next_run_at is None:
        return ": ".join(filter(None, ("never", no_further(schedule))))
    return f"{_local(schedule.next_run_at, schedule)} ({_until(schedule.next_run_at - now)})"


def _last(schedule: Schedule) -> str:
    return schedule.last_status or "none yet"


def _local(instant: datetime, schedule: Schedule) -> str:
    """In the schedule's zone; in UTC where that zone is gone."""
    try:
        zone = ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    return f"{instant.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _until(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 0:
        return "overdue"
    days, hours = minutes // 1440, minutes // 60
    if days:
        return f"in {days} d {hours % 24} h"
    return f"in {hours} h {minutes % 60} min" if hours else f"in {minutes} min"


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number from 1 to 1000")
    return int(text)
