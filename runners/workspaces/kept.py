"""Checkouts that wait for the next session of their repository, clean.

    ROOT/acme/17/       checkout, index and record of what was the workspace of session 17

One is given and taken by one rename: two can't take the same, and there is no half. What comes in is cleaned first,
apart, and what goes out is compared again by whoever takes it: between the two nothing is believed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runners.base import RunnerError, WorkspaceError
from runners.workspaces.file_times import tells_of_every_write
from runners.workspaces.folders import apart, is_folder, leftover_of, remove
from runners.workspaces.git import plain_errors
from runners.workspaces.occupants import occupants
from runners.workspaces.restoring import RECORD, Spoilt, restore

_BYTES = "bytes"
_CLEANING = timedelta(minutes=15)  # takes a second, or as long as `rm` may


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCheckout:
    """A checkout that waits. `bytes` on the disk, `kept_at` aware UTC."""

    slug: str
    name: str
    path: Path
    bytes: int
    kept_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may wait, and for how long. The oldest go first."""

    max_bytes: int
    max_bytes_per_repository: int
    max_age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A checkout that waits no more, and the reason. `error` says why it is still there; empty: it was removed."""

    checkout: KeptCheckout
    because: str
    error: str = ""


class Kept:
    """The checkouts below one folder, which is on the same file system as the workspaces."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def give(self, folder: Path, *, slug: str) -> str:
        """Keep the workspace in `folder`, whose work is archived, for another session. The folder is gone after this.

        Returns why it was not kept, but removed; empty: it was. Raises WorkspaceError where it could not be removed.
        """
        place = self.root / slug / folder.name
        draft = apart(place, "new")
        try:
            with plain_errors("Keeping the checkout"):
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.rename(draft)
        except RunnerError as error:
            remove(folder)
            return str(error)
        try:
            with plain_errors("Keeping the checkout"):
                _clean(draft)
                draft.rename(place)
        except RunnerError as error:
            remove(draft)
            return str(error)
        return ""

    def take(self, slug: str, *, into: Path) -> bool:
        """Move a checkout of the repository, the one that was kept last, to `into`. Returns whether there was one."""
        for kept in reversed(self._of(slug)):
            try:
                kept.path.rename(into)
            except OSError:
                continue  # another was quicker
            return True
        return False

    def listed(self) -> list[KeptCheckout]:
        """All of them, the oldest first."""
        if not self.root.is_dir():
            return []
        found = [kept for folder in self.root.iterdir() if is_folder(folder) for kept in self._of(folder.name)]
        return sorted(found, key=lambda kept: kept.kept_at)

    def bound(self, bounds: Bounds, *, now: datetime, slugs: Collection[str]) -> list[Dropped]:
        """Remove what is over the bounds, what is of no repository in `slugs`, and what a killed worker left half."""
        self._remove_halves(now)
        return [_drop(kept, because) for kept, because in _surplus(self.listed(), bounds, now=now, slugs=slugs)]

    def _of(self, slug: str) -> list[KeptCheckout]:
        found = []
        try:
            folders = [path for path in (self.root / slug).iterdir() if leftover_of(path) is None]
        except OSError:
            return []
        for path in folders:
            try:
                size = int(json.loads((path / RECORD).read_text())[_BYTES])
                kept_at = datetime.fromtimestamp((path / RECORD).stat().st_mtime, UTC)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # just taken, or none of ours
            found.append(KeptCheckout(slug=slug, name=path.name, path=path, bytes=size, kept_at=kept_at))
        return sorted(found, key=lambda kept: kept.kept_at)

    def _remove_halves(self, now: datetime) -> None:
        for path in self.root.glob("*/.*"):
            if leftover_of(path) is None:
                continue
            with contextlib.suppress(FileNotFoundError):  # just gone
                named_at = datetime.fromtimestamp(path.lstat().st_ctime, UTC)
                if now - named_at > _CLEANING:
                    remove(path)


def _clean(folder: Path) -> None:
    if not tells_of_every_write(folder):
        raise Spoilt("The file system of the workspaces does not tell of every write.")
    busy = occupants(folder)
    if busy:
        raise Spoilt(f"The checkout is still in use by process {busy[0]}.")
    size = restore(folder).bytes
    record = folder / RECORD
    record.write_text(json.dumps({**json.loads(record.read_text()), _BYTES: size}))


def _surplus(
    kept: list[KeptCheckout], bounds: Bounds, *, now: datetime, slugs: Collection[str]
) -> Iterator[tuple[KeptCheckout, str]]:
    """Those that are to go, each with the reason. `kept` is sorted, the oldest first."""
    total, of = 0, dict[str, int]()
    for one in reversed(kept):
        size = of.get(one.slug, 0) + one.bytes
        if one.slug not in slugs:
            yield one, "no session is to use it"
        elif now - one.kept_at > bounds.max_age:
            yield one, "it was not used for long"
        elif size > bounds.max_bytes_per_repository:
            yield one, "those of its repository take too much room"
        elif total + one.bytes > bounds.max_bytes:
            yield one, "all together take too much room"
        else:
            of[one.slug] = size
            total += one.bytes


def _drop(kept: KeptCheckout, because: str) -> Dropped:
    try:
        remove(kept.path)
    except WorkspaceError as error:
        return Dropped(checkout=kept, because=because, error=str(error))
    return Dropped(checkout=kept, because=because)
