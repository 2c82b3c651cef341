"""Run a schedule by hand, follow it, and end with what became of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from rich.markdown import Markdown

from schedules.firing import Refused, trigger
from schedules.management.exits import Exit, ExitingCommand, Stop, named_schedule, whoever
from schedules.management.following import Display, Picture, follow, look
from schedules.management.infrastructure import hindrance
from schedules.management.progress import console_on, progress
from schedules.management.rehearsing import report_lines
from schedules.management.report import as_object, branch_line, exit_code, run_line
from schedules.management.streams import printable
from schedules.models import Repository, Schedule, Session
from schedules.readiness import report_of
from schedules.steering import cancel_run
from schedules.tasks import dispatch
from schedules.waiting import waiting

_EPILOG = """\
exit codes:
  0    succeeded (with --no-wait: queued)
  1    failed: at least one session failed, was lost or was cancelled
  2    usage: an option, variable or repository that the schedule does not have
  3    there is no schedule of that name
  4    refused: disabled, overlap policy, repository off, options that can't be run
  5    infrastructure: no database, migrations missing, no worker alive, no broker
  124  timed out: the session's time limit, or --timeout
  130  interrupted by Ctrl-C

The result goes to standard output, progress and errors to standard error.
Giving up to wait (5, 124, 130) does not end the run: it goes on, and says so.

examples:
  bin/manage runschedule daily-briefing
  bin/manage runschedule weekly-review --rehearse --json | jq .runs[0].status
  bin/manage runschedule triage --repository web-shop --var tone=brief --no-wait
"""


class Command(ExitingCommand):
    help = "Run a schedule by hand, follow it, and end with an exit code that says what became of it."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", metavar="NAME", help="name of the schedule")
        waiting = parser.add_mutually_exclusive_group()
        waiting.add_argument(
            "--wait", action="store_true", default=True, help="follow the run and print its result (the default)"
        )
        waiting.add_argument("--no-wait", action="store_false", dest="wait", help="queue the run, print its id and end")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="print one JSON object and nothing else"
        )
        parser.add_argument(
            "--rehearse", action="store_true", help="the real agent program, a scripted model: no key, no cost"
        )
        parser.add_argument(
            "--repository",
            action="append",
            dest="slugs",
            metavar="SLUG",
            help="only in this one of its repositories; may be given several times",
        )
        parser.add_argument(
            "--var",
            action="append",
            dest="variables",
            default=[],
            type=_variable,
            metavar="KEY=VALUE",
            help="another value for one of its variables; may be given several times",
        )
        parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="wait no longer than this")
        parser.add_argument(
            "--worker-wait",
            type=_seconds,
            default=timedelta(seconds=15),
            metavar="SECONDS",
            help="give up when no worker could take the run for this long (default: 15)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        schedule = named_schedule(options["name"])
        ids = _queue(schedule, options)
        stop = self._follow(schedule, ids, options) if options["wait"] else _left_alone(ids)
        picture = look(ids, whole=True)
        if stop is None:
            stop = Stop(exit_code(picture.runs, picture.sessions))
        if options["as_json"]:
            waits = waiting(picture.sessions, now=timezone.now())
            facts = as_object(
                schedule.name, picture.runs, picture.sessions, code=stop.code, message=str(stop), waits=waits
            )
            print(json.dumps(facts, indent=2, ensure_ascii=False), file=self.results)
        else:
            self._tell(picture, stop, options)
        self.results.flush()
        if stop.code:
            sys.exit(stop.code)

    def _follow(self, schedule: Schedule, ids: Sequence[int], options: Mapping[str, Any]) -> Stop | None:
        """Hand the runs to the workers and wait for their end. None: they are over; else why no longer."""
        try:
            dispatch()
            with self._display(schedule, ids, options) as display:
                follow(ids, display, timeout=options["timeout"], worker_wait=options["worker_wait"])
        except Stop as stop:
            return stop
        except KeyboardInterrupt:
            if self._wants_to_cancel(ids):
                now, by = timezone.now(), whoever()
                for run_id in ids:
                    cancel_run(run_id, by=by, now=now)
            return Stop(Exit.INTERRUPTED)
        return None

    def _display(
        self, schedule: Schedule, ids: Sequence[int], options: Mapping[str, Any]
    ) -> AbstractContextManager[Display]:
        if options["verbosity"] == 0:
            return nullcontext(Silence())
        rehearsed = any(run.is_rehearsal for run in look(ids).runs)
        title = f"{schedule}{' (rehearsed)' if rehearsed else ''}"
        return progress(self.notices, title=title, colour=_colour(options))

    def _wants_to_cancel(self, ids: Sequence[int]) -> bool:
        """Ask, where there is somebody to ask. A second Ctrl-C leaves at once."""
        notices = self.notices
        if not (sys.stdin and sys.stdin.isatty() and notices.isatty()):
            return False
        print(f"\nCancel {_named(ids)} too? [y/N] ", end="", file=notices)
        notices.flush()
        self.heed_next_interrupt()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _tell(self, picture: Picture, stop: Stop, options: Mapping[str, Any]) -> None:
        """The results on standard output; on standard error how it ended."""
        if not options["wait"]:
            for run in picture.runs:
                print(run.pk, file=self.results)
        for session in picture.sessions:
            if session.result and not session.is_open:
                self._print_result(session, alone=len(picture.sessions) == 1, options=options)
        self.results.flush()
        if options["wait"]:
            for line in _ends(picture):
                print(line, file=self.notices)
        if str(stop):
            print(stop, file=self.notices)

    def _print_result(self, session: Session, *, alone: bool, options: Mapping[str, Any]) -> None:
        place = f"{session.repository}: " if session.repository else ""
        heading = "" if alone else f"# {place}{session.item_key}\n\n"
        if not self.results.isatty():
            print(f"{heading}{session.result.rstrip()}\n" if heading else session.result.rstrip(), file=self.results)
            return
        # Without hyperlinks a link shows where it leads.
        text = Markdown(printable(heading + session.result), hyperlinks=False)
        console_on(self.results, colour=_colour(options)).print(text)


class Silence:
    def show(self, picture: Picture, *, note: str, now: datetime) -> None:
        """Nothing is shown: --verbosity 0."""


def _queue(schedule: Schedule, options: Mapping[str, Any]) -> list[int]:
    """The ids of the runs that were recorded. Raises Stop when there are none."""
    if options["rehearse"] and not schedule.is_agent:
        raise Stop(Exit.USAGE, f"{schedule} runs a {schedule.runner} and no agent: there is nothing to rehearse.")
    variables = dict(options["variables"])
    for name in variables:
        if name not in schedule.variables:
            raise Stop(Exit.USAGE, f"{schedule} has no variable “{name}”. {_choice(name, schedule.variables)}")
    try:
        runs = trigger(
            schedule,
            repositories=_repositories(schedule, options["slugs"]),
            by=whoever(),
            variables=variables,
            rehearse=options["rehearse"],
            now=timezone.now(),
        )
    except Refused as refused:
        raise Stop(Exit.REFUSED, str(refused), reason=str(refused.reason)) from refused
    return [run.pk for run in runs]


def _repositories(schedule: Schedule, slugs: Sequence[str] | None) -> list[Repository] | None:
    if not slugs:
        return None
    known = {repository.slug: repository for repository in schedule.repositories.all()}
    for slug in slugs:
        if slug not in known:
            raise Stop(Exit.USAGE, f"{schedule} does not run in the repository “{slug}”. {_choice(slug, known)}")
    return [repository for slug, repository in known.items() if slug in slugs]


def _choice(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known) or 'none'}."


def _left_alone(ids: Sequence[int]) -> Stop:
    """Hand the runs to the workers, which is all that was asked for. A word where nothing would come of it."""
    dispatch()
    picture = look(ids)
    problem = hindrance(picture.runs, picture.sessions, now=timezone.now())
    return Stop(Exit.SUCCEEDED, f"{problem}: until then it stays queued." if problem else "")


def _ends(picture: Picture) -> Iterator[str]:
    """How each run ended, and what it left behind."""
    for run in picture.runs:
        if run.is_open:
            asked = " and its end was asked for" if run.cancel_requested_at else " and goes on without being watched"
            yield f"Run {run.pk} is {run.status}{asked}."
            continue
        yield run_line(run)
    yield from filter(None, map(branch_line, picture.sessions))
    for session in picture.sessions:
        if report := report_of(session):
            yield from report_lines(session, report)
    if any(run.is_rehearsal for run in picture.runs):
        yield "REHEARSED: a scripted model answered. It cost nothing, and nothing was delivered."


def _named(ids: Sequence[int]) -> str:
    return f"run {ids[0]}" if len(ids) == 1 else f"the runs {', '.join(map(str, ids))}"


def _colour(options: Mapping[str, Any]) -> bool | None:
    if options["no_color"]:
        return False
    return True if options["force_color"] else None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"“{text}” is not KEY=VALUE")
    return name, value


def _seconds(text: str) -> timedelta:
    try:
        seconds = float(text)
        span = timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        span = timedelta()
    if span <= timedelta():
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of seconds above 0")
    return span
