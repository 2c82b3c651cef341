"""All of Rota at once: stop everything and lift the stop, freeze windows, and what of it is in force."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.utils import timezone

from schedules import stopping
from schedules.halts import freeze_told, stop_told
from schedules.management.exits import Exit, ExitingCommand, Stop, named_schedule, whoever
from schedules.models import Freeze, Schedule
from schedules.models import Stop as GlobalStop
from schedules.rendering.display import counted
from schedules.tasks import dispatch

_EPILOG = """\
exit codes:
  0  done
  2  usage
  3  there is no such schedule or freeze window
  4  refused: everything is stopped already
  5  infrastructure: no database, migrations missing
"""


class Command(ExitingCommand):
    help = "Stop everything and lift the stop, freeze windows, and what of it is in force."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        stop = verbs.add_parser("stop", help="nothing is fired, run by hand or started until somebody lifts it")
        stop.add_argument("--reason", required=True, help="why, for whoever wonders")
        stop.add_argument("--cancel", action="store_true", help="cancel what runs, too")
        lift = verbs.add_parser("lift", help="let everything start again")
        lift.add_argument("--reason", default="", help="what has changed")
        status = verbs.add_parser("status", help="the stop and the freeze windows in force and to come")
        status.add_argument("--json", action="store_true", dest="as_json", help="print a JSON object")
        freeze = verbs.add_parser("freeze", help="no starts between two times")
        freeze.add_argument("--from", dest="since", metavar="TIME", help="such as 2027-01-31T09:00+01:00; default: now")
        freeze.add_argument("--until", required=True, metavar="TIME")
        freeze.add_argument("--reason", required=True, help="why, for whoever wonders")
        freeze.add_argument(
            "--schedule", action="append", default=[], metavar="NAME", help="this one; may be given several times"
        )
        thaw = verbs.add_parser("thaw", help="end a freeze window now")
        thaw.add_argument("id", type=int, metavar="ID", help="as status tells it")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        {
            "stop": self._stop,
            "lift": self._lift,
            "status": self._status,
            "freeze": self._freeze,
            "thaw": self._thaw,
        }[options["verb"]](options, now)

    def _stop(self, options: Mapping[str, Any], now: datetime) -> None:
        try:
            asked = stopping.stop(by=whoever(), reason=options["reason"], cancel_running=options["cancel"], now=now)
        except stopping.StoppedAlready as already:
            raise Stop(Exit.REFUSED, f"{already}.") from already
        cancelled = f" {asked} sessions were asked to end." if options["cancel"] else " What runs goes on."
        print(f"Everything is stopped.{cancelled} bin/manage rota lift lets it start again.", file=self.notices)

    def _lift(self, options: Mapping[str, Any], now: datetime) -> None:
        lifted = stopping.lift(by=whoever(), reason=options["reason"], now=now)
        dispatch()
        print("Lifted: what waited starts now." if lifted else "Nothing was stopped.", file=self.notices)

    def _status(self, options: Mapping[str, Any], now: datetime) -> None:
        stop = GlobalStop.objects.in_force().first()
        freezes = list(Freeze.objects.filter(ends_at__gt=now).order_by("starts_at").prefetch_related("schedules"))
        broken = Schedule.objects.filter(status=Schedule.Status.BROKEN).count()
        if options["as_json"]:
            told = {
                "stop": stop and {"reason": stop.reason, "set_by": stop.set_by, "set_at": stop.set_at.isoformat()},
                "freezes": [_as_object(freeze) for freeze in freezes],
                "broken_schedules": broken,
            }
            print(json.dumps(told, indent=2, ensure_ascii=False), file=self.results)
        else:
            print(f"{stop_told(stop)}." if stop else "Nothing is stopped.", file=self.results)
            for freeze in freezes:
                named = ", ".join(schedule.name for schedule in freeze.schedules.all()) or "all schedules"
                print(f"{freeze.pk}  {freeze_told(freeze)} ({named})", file=self.results)
            if broken:
                print(f"{counted(broken, 'schedule')} broken: see bin/manage schedule list.", file=self.results)

    def _freeze(self, options: Mapping[str, Any], now: datetime) -> None:
        starts_at = _instant(options["since"]) if options["since"] else now
        named = [named_schedule(name) for name in options["schedule"]]
        try:
            window = stopping.freeze(
                starts_at=starts_at,
                ends_at=_instant(options["until"]),
                reason=options["reason"],
                schedules=named,
                by=whoever(),
            )
        except ValidationError as error:
            raise Stop(Exit.USAGE, " ".join(error.messages)) from error
        print(f"{freeze_told(window)}. bin/manage rota thaw {window.pk} ends it.", file=self.notices)

    def _thaw(self, options: Mapping[str, Any], now: datetime) -> None:
        if not stopping.thaw(options["id"], now=now):
            raise Stop(Exit.UNKNOWN, f"There is no freeze window {options['id']} in force or to come.")
        dispatch()
        print("Ended: what waited starts now.", file=self.notices)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"“{text}” is not a time. Write it like 2027-01-31T09:00+01:00.") from error
    return found if found.tzinfo else timezone.make_aware(found)


def _as_object(freeze: Freeze) -> dict[str, Any]:
    return {
        "id": freeze.pk,
        "starts_at": freeze.starts_at.isoformat(),
        "ends_at": freeze.ends_at.isoformat(),
        "reason": freeze.reason,
        "created_by": freeze.created_by,
        "schedules": [schedule.name for schedule in freeze.schedules.all()],
    }
