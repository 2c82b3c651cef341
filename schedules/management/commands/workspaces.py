"""Look at the workspaces of this machine, and make room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from runners import Dropped, Reaped
from schedules.management.exits import Exit, ExitingCommand, Stop
from schedules.management.streams import one_line
from schedules.management.tables import listing, show
from schedules.rendering.display import counted
from schedules.sweeping import WorkspaceOnDisk, reap_workspaces, workspaces_on_disk

_EPILOG = """\
A workspace is live while its session is open. A leftover is one whose session is over: its changes are archived in
sessions/reaped before it is removed. A kept checkout waits, clean, for the next session of a repository whose
workspaces are warm. Workers do by themselves what reap does, once a minute.

exit codes:
  0  done
  1  something could not be archived or removed, and is there still
  2  usage
  5  infrastructure: no database, migrations missing
"""


class Command(ExitingCommand):
    help = "List the workspaces of this machine with their sizes, and archive and remove what nobody needs."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("verb", nargs="?", choices=("list", "reap"), default="list", help="default: list")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
        parser.add_argument(
            "--all-kept", action="store_true", help="reap: also the kept checkouts that are within the limits"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "reap":
            self._reap(options)
            return
        if options["all_kept"]:
            raise Stop(Exit.USAGE, "--all-kept goes with reap: bin/manage workspaces reap --all-kept")
        self._list(options)

    def _list(self, options: Mapping[str, Any]) -> None:
        now = timezone.now()
        found = workspaces_on_disk(now=now)
        if options["as_json"]:
            print(json.dumps([_as_object(one, now) for one in found], indent=2), file=self.results)
            return
        if not found:
            print("There is no workspace on this machine.", file=self.notices)
            return
        rows = [
            (str(one.session or "-"), one.repository or "-", one.state, _size(one.bytes), _age(now - one.since))
            for one in found
        ]
        headings = ("session", "repository", "state", "size", "age")
        show(listing(headings, rows, numbers=("size", "age")), on=self.results, options=options)
        print(f"{counted(len(found), 'workspace')}, {_size(sum(one.bytes for one in found))}.", file=self.notices)

    def _reap(self, options: Mapping[str, Any]) -> None:
        left_behind, dropped = reap_workspaces(now=timezone.now(), all_kept=options["all_kept"])
        freed = sum(one.bytes for one in left_behind if not one.error)
        freed += sum(one.checkout.bytes for one in dropped if not one.error)
        failed = any(one.error for one in left_behind) or any(one.error for one in dropped)
        if options["as_json"]:
            report = {
                "freed_bytes": freed,
                "reaped": [*map(_reaped_object, left_behind), *map(_dropped_object, dropped)],
            }
            print(json.dumps(report, indent=2, ensure_ascii=False), file=self.results)
        else:
            for line in _lines(left_behind, dropped):
                print(one_line(line), file=self.results)
            print(
                f"{_size(freed)} freed." if left_behind or dropped else "There was nothing to reap.", file=self.notices
            )
        if failed:
            raise SystemExit(Exit.FAILED)


def _as_object(one: WorkspaceOnDisk, now: datetime) -> dict[str, Any]:
    return {
        "session": one.session,
        "repository": one.repository or None,
        "state": one.state,
        "bytes": one.bytes,
        "since": one.since.isoformat(),
        "age": round((now - one.since).total_seconds()),
        "path": str(one.path),
    }


def _reaped_object(one: Reaped) -> dict[str, Any]:
    patch = one.archive.patch_path if one.archive else None
    return {
        "name": one.name,
        "state": "leftover",
        "bytes": one.bytes,
        "patch": str(patch) if patch else None,
        "bundle": str(one.bundle) if one.bundle else None,
        "because": "its session is over",
        "error": one.error,
    }


def _dropped_object(one: Dropped) -> dict[str, Any]:
    return {
        "name": one.checkout.name,
        "state": "kept",
        "repository": one.checkout.slug,
        "bytes": one.checkout.bytes,
        "because": one.because,
        "error": one.error,
    }


def _lines(left_behind: Sequence[Reaped], dropped: Sequence[Dropped]) -> list[str]:
    lines = []
    for one in left_behind:
        patch = one.archive.patch_path if one.archive else None
        kept = f"its changes are in {patch}" if patch else "it held no changes"
        lines.append(f"{one.name}  {_size(one.bytes)}  {f'stays: {one.error}' if one.error else f'removed: {kept}'}")
    for drop in dropped:
        what = f"stays: {drop.error}" if drop.error else f"removed: {drop.because}"
        lines.append(f"{drop.checkout.slug}/{drop.checkout.name}  {_size(drop.checkout.bytes)}  {what}")
    return lines


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _age(span: timedelta) -> str:
    minutes = max(0, round(span.total_seconds() / 60))
    days, hours = minutes // 1440, minutes // 60
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
