"""Checkouts that wait: how many, how long, and which go first."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runners.workspaces import Bounds, Cache, Kept, Workspace, size, tells_of_every_write

Checkout = Callable[[], Workspace]

NOW = datetime.now(UTC)
WIDE = Bounds(max_bytes=10**9, max_bytes_per_repository=10**9, max_age=timedelta(days=1))


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    if not tells_of_every_write(folder):
        pytest.skip("Checkouts are not kept on the file system of the temporary folder.")
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "workspaces" / "kept")


@pytest.fixture
def three(kept: Kept, checkout: Checkout) -> list[Path]:
    """Three that wait: kept three, two and one hour ago; the second is of another repository."""
    for hours, slug in ((3, "acme"), (2, "other"), (1, "acme")):
        workspace = checkout()
        assert kept.give(workspace.folder, slug=slug) == ""
        at = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(kept.root / slug / workspace.folder.name / "workspace.json", (at, at))
    return [one.path for one in kept.listed()]


def names(kept: Kept) -> list[str]:
    return [f"{one.slug}/{one.name}" for one in kept.listed()]


def test_they_are_listed_with_size_and_time_the_oldest_first(kept: Kept, three: list[Path]) -> None:
    assert names(kept) == ["acme/w1", "other/w2", "acme/w3"]
    first = kept.listed()[0]
    assert abs(first.bytes - size(first.path / "checkout")) <= 4096
    assert first.kept_at == NOW - timedelta(hours=3) or abs(first.kept_at - (NOW - timedelta(hours=3))) < timedelta(
        milliseconds=1
    )


def test_the_one_that_was_kept_last_is_taken(kept: Kept, three: list[Path], tmp_path: Path) -> None:
    assert kept.take("acme", into=tmp_path / "a")
    assert names(kept) == ["acme/w1", "other/w2"]
    assert kept.take("acme", into=tmp_path / "b")
    assert not kept.take("acme", into=tmp_path / "c")
    assert not kept.take("nobody", into=tmp_path / "c")


@pytest.mark.parametrize(
    ("narrow", "left", "because"),
    [
        ({}, ["acme/w1", "other/w2", "acme/w3"], ""),
        ({"max_age": timedelta(hours=2, minutes=30)}, ["other/w2", "acme/w3"], "not used for long"),
        ({"max_bytes": 2}, ["other/w2", "acme/w3"], "all together"),
        ({"max_bytes": 1}, ["acme/w3"], "all together"),
        ({"max_bytes_per_repository": 1}, ["other/w2", "acme/w3"], "of its repository"),
        ({"max_bytes": 0}, [], "all together"),
    ],
)
def test_what_is_over_the_bounds_goes_the_oldest_first(
    kept: Kept, three: list[Path], narrow: dict[str, object], left: list[str], because: str
) -> None:
    one = max(checkout.bytes for checkout in kept.listed())
    scaled = {name: value * one if isinstance(value, int) else value for name, value in narrow.items()}
    bounds = replace(WIDE, **scaled)  # type: ignore[arg-type]
    dropped = kept.bound(bounds, now=NOW, slugs={"acme", "other"})
    assert names(kept) == left
    assert all(because in drop.because and drop.error == "" for drop in dropped)
    assert len(dropped) == 3 - len(left)


def test_those_of_a_repository_that_keeps_none_go(kept: Kept, three: list[Path]) -> None:
    kept.bound(WIDE, now=NOW, slugs={"other"})
    assert names(kept) == ["other/w2"]


def test_halves_go_when_nobody_can_be_at_them_any_more(kept: Kept, three: list[Path]) -> None:
    for name in (".7.0123abcd.new", ".9.0123abcd.gone"):
        (kept.root / "acme" / name).mkdir()
    for later, left in ((timedelta(minutes=1), 2), (timedelta(minutes=20), 0)):
        kept.bound(WIDE, now=datetime.now(UTC) + later, slugs={"acme", "other"})
        assert len(list((kept.root / "acme").glob(".*"))) == left
    assert len(kept.listed()) == 3


def test_what_is_none_of_ours_is_neither_listed_nor_taken_nor_removed(kept: Kept, tmp_path: Path) -> None:
    assert kept.listed() == []
    for name in ("documents", "half"):
        (kept.root / "acme" / name).mkdir(parents=True)
    (kept.root / "file").touch()
    (kept.root / "acme" / "half" / "workspace.json").write_text("{}")
    (kept.root / "link").symlink_to(tmp_path)
    assert kept.listed() == []
    assert not kept.take("acme", into=tmp_path / "a")
    kept.bound(replace(WIDE, max_bytes=0), now=NOW, slugs=())
    assert sorted(path.name for path in (kept.root / "acme").iterdir()) == ["documents", "half"]


def test_a_place_that_is_taken_costs_the_checkout_and_nothing_else(kept: Kept, checkout: Checkout, acme: Cache) -> None:
    workspace = checkout()
    (kept.root / "acme" / workspace.folder.name / "precious").mkdir(parents=True)
    assert kept.give(workspace.folder, slug="acme")
    assert not workspace.folder.exists()
    assert [path.name for path in (kept.root / "acme").iterdir()] == [workspace.folder.name]
