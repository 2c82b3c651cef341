"""A manifest becomes rows, whole or not at all.

What a manifest names, it describes fully: a key that is absent has its default. What it does not name is left alone,
and so is the status of a schedule, which people set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction

from schedules.editing import save_edited
from schedules.manifests.manifest import Entry, Manifest, ManifestError, Problem
from schedules.manifests.yaml_file import COMMAND_KEYS, SCHEDULE_KEYS
from schedules.models import Command, Pool, Repository, Schedule
from schedules.pools import of_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one `apply` did, each as `command issue/triage` or `schedule todo-report`."""

    created: Sequence[str]
    updated: Sequence[str]
    unchanged: Sequence[str]


def apply(
    manifest: Manifest,
    *,
    repositories: Collection[Repository] = (),
    only_missing: bool = False,
    by: str,
    now: datetime,
) -> Applied:
    """Make the commands and schedules of a manifest what it says. Applied again, it changes nothing.

    `repositories` are those of a schedule that names none. `only_missing` leaves what exists as it is, whatever the
    manifest says. Raises ManifestError with all that is wrong, and then nothing is changed.
    """
    applying = _Applying(manifest.source, repositories, only_missing=only_missing, by=by, now=now)
    with transaction.atomic():
        for entry in manifest.commands:
            applying.command(entry)
        for entry in manifest.schedules:
            applying.schedule(entry)
        if applying.problems:
            raise ManifestError(manifest.source, applying.problems)
    return Applied(created=applying.created, updated=applying.updated, unchanged=applying.unchanged)


class _Applying:
    """One call of `apply`, inside its transaction: it collects problems and goes on."""

    def __init__(
        self, source: str, repositories: Collection[Repository], *, only_missing: bool, by: str, now: datetime
    ) -> None:
        self.source = source
        self.default_repositories = repositories
        self.only_missing = only_missing
        self.by = by
        self.now = now
        self.problems: list[Problem] = []
        self.refused_commands: set[str] = set()
        self.created: list[str] = []
        self.updated: list[str] = []
        self.unchanged: list[str] = []

    def command(self, entry: Entry) -> None:
        command = Command.objects.select_for_update().filter(pk=entry.name).first()
        if command and self.only_missing:
            self.unchanged.append(f"command {command}")
            return
        is_new = command is None
        command = command or Command(pk=entry.name)
        changed = _assign(command, {**_defaults(Command, COMMAND_KEYS), "name": entry.name, **entry.values})
        with self._problems_of("commands", entry):
            command.full_clean()
            self._save(command, is_new=is_new, changed=changed)
            return
        self.refused_commands.add(entry.name)

    def schedule(self, entry: Entry) -> None:
        schedule = Schedule.objects.select_for_update().filter(name=entry.name).first()
        if schedule and self.only_missing:
            self.unchanged.append(f"schedule {schedule}")
            return
        if entry.values.get("command") in self.refused_commands:
            return  # it can't be judged before its command can
        is_new = schedule is None
        schedule = schedule or Schedule(name=entry.name, status_by=self.by, status_at=self.now)
        values = {**_defaults(Schedule, SCHEDULE_KEYS), "time_zone": settings.TIME_ZONE, **entry.values}
        with self._problems_of("schedules", entry):
            repositories = _found(values.pop("repositories"), self.default_repositories)
            pools = _pools(values.pop("pools") or ())
            values["command"] = _command(values["command"])
            changed = _assign(schedule, values)
            schedule.full_clean()
            schedule.check_repositories(repositories)
            schedule.check_pools(of_schedule(schedule, named=pools))
            if is_new or "at" in changed:
                schedule.check_at(self.now)
            links: dict[str, Collection[models.Model]] = {"repositories": repositories, "pools": pools}
            self._save_schedule(schedule, links, is_new=is_new, changed=changed)

    def _save_schedule(
        self, schedule: Schedule, links: Mapping[str, Collection[models.Model]], *, is_new: bool, changed: list[str]
    ) -> None:
        moved = [name for name, rows in links.items() if is_new or set(getattr(schedule, name).all()) != set(rows)]
        if is_new:
            schedule.plan(self.now)
            schedule.save(force_insert=True)
        elif changed or moved:
            save_edited(schedule, [*changed, "updated_at"], by=self.by, now=self.now)
        for name in moved:
            getattr(schedule, name).set(links[name])
        self._note(schedule, is_new=is_new, changed=bool(changed or moved))

    def _save(self, command: Command, *, is_new: bool, changed: list[str]) -> None:
        if is_new:
            command.save(force_insert=True)
        elif changed:
            command.save(update_fields=[*changed, "updated_at"])
        self._note(command, is_new=is_new, changed=bool(changed))

    def _note(self, row: Command | Schedule, *, is_new: bool, changed: bool) -> None:
        done = self.created if is_new else self.updated if changed else self.unchanged
        done.append(f"{row._meta.verbose_name} {row}")

    @contextmanager
    def _problems_of(self, section: str, entry: Entry) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                key = "" if field in (NON_FIELD_ERRORS, "id") else f".{field}"
                place = f"{section}.{entry.name}{key}"
                line = entry.lines.get(field, entry.line)
                self.problems += [Problem(line, place, message) for message in messages]


def _defaults(model: type[models.Model], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that an entry leaves out. None of links: they are found by name."""
    fields = (model._meta.get_field(key) for key in keys)
    return {
        field.name: field.get_default() if isinstance(field, models.Field) and not field.many_to_many else None
        for field in fields
    }


def _assign(row: models.Model, values: Mapping[str, Any]) -> list[str]:
    """Set the fields of a row; the names of those that differ."""
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    return changed


def _command(name: str | None) -> Command | None:
    if name is None:
        return None
    command = Command.objects.filter(pk=name).first()
    if command is None:
        raise ValidationError({"command": f"There is no command “{name}”.{_near(name, Command, 'pk')}"})
    return command


def _found(slugs: Sequence[str] | None, otherwise: Collection[Repository]) -> list[Repository]:
    """The repositories with these short names, or the others where none are named."""
    if slugs is None:
        return list(otherwise)
    found = {repository.slug: repository for repository in Repository.objects.filter(slug__in=slugs)}
    missing = [slug for slug in slugs if slug not in found]
    if missing:
        sentences = [f"There is no repository “{slug}”.{_near(slug, Repository, 'slug')}" for slug in missing]
        raise ValidationError({"repositories": sentences})
    return list(found.values())


def _pools(names: Sequence[str]) -> list[Pool]:
    found = {pool.name: pool for pool in Pool.objects.filter(name__in=names)}
    missing = [name for name in names if name not in found]
    if missing:
        raise ValidationError({"pools": [f"There is no pool “{name}”.{_near(name, Pool, 'name')}" for name in missing]})
    return list(found.values())


def _near(name: str, model: type[Command] | type[Repository] | type[Pool], field: str) -> str:
    near = get_close_matches(name, model._default_manager.values_list(field, flat=True), n=1)
    return f" Did you mean {near[0]}?" if near else " Register it first."
