"""Look at what should have happened and did not, and say that somebody sees to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from schedules.management.exits import Exit, ExitingCommand, Stop
from schedules.management.tables import listing, show
from schedules.models import Incident
from schedules.watch import open_incidents

_EPILOG = """\
An incident is open until its cause is gone. To acknowledge one says that somebody sees to it.

exit codes:
  0  no incident is open that nobody has acknowledged; or the one that was named is acknowledged now
  1  there are some
  2  usage
  5  infrastructure: no database, migrations missing
"""
_MOST = 1000


class Command(ExitingCommand):
    help = "List the open incidents, those that nobody has acknowledged first, or acknowledge one."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("verb", nargs="?", choices=("list", "acknowledge"), default="list", help="default: list")
        parser.add_argument("number", nargs="?", type=int, help="acknowledge: of the incident")
        parser.add_argument("--by", default="", help="acknowledge: who sees to it")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "acknowledge":
            self._acknowledge(options["number"], by=options["by"])
        elif options["number"] is not None:
            raise Stop(Exit.USAGE, "A number goes with acknowledge: bin/manage incidents acknowledge NUMBER")
        else:
            self._list(options)

    def _acknowledge(self, number: int | None, *, by: str) -> None:
        if number is None:
            raise Stop(Exit.USAGE, "Which one? bin/manage incidents acknowledge NUMBER")
        if not Incident.objects.filter(pk=number).exists():
            raise Stop(Exit.USAGE, f"There is no incident {number}.")
        if not Incident.objects.acknowledge(number, by=by, now=timezone.now()):
            print("It was acknowledged before.", file=self.notices)

    def _list(self, options: Mapping[str, Any]) -> None:
        found = open_incidents(limit=_MOST)
        if options["as_json"]:
            print(json.dumps([_as_object(one) for one in found], indent=2), file=self.results)
        elif found:
            self._show(found, options)
        else:
            print("No incident is open.", file=self.notices)
        if any(one.acknowledged_at is None for one in found):
            sys.exit(Exit.FAILED)

    def _show(self, found: list[Incident], options: Mapping[str, Any]) -> None:
        headings = ("number", "kind", "count", "since (UTC)", "acknowledged", "what")
        table = listing(headings, map(_cells, found), numbers=("number", "count"))
        show(table, on=self.results, options=options)


def _cells(incident: Incident) -> tuple[str, ...]:
    since = f"{incident.first_at:%Y-%m-%d %H:%M}"
    seen = (incident.acknowledged_by or "yes") if incident.acknowledged_at else "-"
    return str(incident.pk), incident.kind, str(incident.count), since, seen, incident.message


def _as_object(incident: Incident) -> dict[str, Any]:
    return {
        "number": incident.pk,
        "kind": incident.kind,
        "subject": incident.subject,
        "schedule": incident.schedule.name if incident.schedule else None,
        "message": incident.message,
        "count": incident.count,
        "first_at": incident.first_at.isoformat(),
        "last_at": incident.last_at.isoformat(),
        "acknowledged_at": incident.acknowledged_at.isoformat() if incident.acknowledged_at else None,
        "acknowledged_by": incident.acknowledged_by,
    }
