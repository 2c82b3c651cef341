"""A disk that is full, before a session or by it: told by its own reason, and nothing lost. On a real small disk."""

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from schedules.folders import session_folder
from schedules.models import Repository, Session
from schedules.sweeping import sweep
from tests.runners.repositories import Source
from tests.schedules.factories import make_repository
from tests.schedules.places import run_script, use_folders

pytestmark = pytest.mark.django_db(transaction=True)

PLACES = ("ROTA_SESSIONS_DIR", "ROTA_WORKSPACES_DIR", "ROTA_CACHE_DIR")


@pytest.fixture
def disk(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    """An empty disk of 2 MB. The places of sessions are beside it."""
    use_folders(settings, tmp_path)
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("Only root may mount a small disk, and not everywhere.")
    yield folder
    for session in (tmp_path / "sessions", folder):
        for left in session.glob("[0-9]*"):
            kill(left)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    source = Source(tmp_path / "shop")
    source.commit({f"{number}.bin": os.urandom(300_000) for number in range(4)})
    return make_repository("shop", url=source.url)


def fill(disk: Path) -> Path:
    """Until not one block is free."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file:
        for _ in range(os.statvfs(disk).f_bfree):
            file.write(bytes(os.statvfs(disk).f_bsize))
    return filling


def told(session: Session) -> tuple[str, str]:
    return session.status, session.reason


@pytest.mark.parametrize("full", PLACES)
def test_there_is_no_room_to_prepare_a_session(disk: Path, shop: Repository, settings: Settings, full: str) -> None:
    setattr(settings, full, disk)
    filling = fill(disk)
    session = run_script("true", shop)

    assert told(session) == ("failed", "disk_full")
    assert "no space left on the disk" in session.message
    filling.unlink()
    assert told(run_script("true", shop)) == ("succeeded", "ok")


def test_a_session_that_fills_the_disk_is_told_so_and_tidied(disk: Path, shop: Repository, settings: Settings) -> None:
    """What it printed is on the disk already; there is no room to keep it for good as long as its HOME is there."""
    settings.ROTA_SESSIONS_DIR = disk
    prints = "head -c 50000 /dev/urandom | base64"  # 67,545 bytes, each line with its time on the disk
    is_there = 'until [ "$(stat -c %s "$HOME/../output.log")" -gt 67545 ]; do sleep 0.02; done'
    session = run_script(f"{prints}; {is_there}; cat /dev/zero > $HOME/filling 2>/dev/null; exit 0", shop)

    assert told(session) == ("failed", "disk_full")
    folder = session_folder(session.pk)
    assert sweep(now=timezone.now() + timedelta(hours=1)) == 0
    assert not (folder / "home").exists()
    assert (folder / "transcript.log.gz").stat().st_size > 0
    assert not (folder / "output.log").exists()


def test_work_that_there_is_no_room_for_stays_until_there_is(disk: Path, shop: Repository, settings: Settings) -> None:
    settings.ROTA_SESSIONS_DIR = disk
    session = run_script(
        f"head -c 900000 /dev/urandom > work.bin; cat /dev/zero 2>/dev/null > {disk}/filling; exit 0", shop
    )

    assert told(session) == ("failed", "disk_full")
    work = list(Path(settings.ROTA_WORKSPACES_DIR).rglob("work.bin"))
    assert [file.stat().st_size for file in work] == [900_000]
    (disk / "filling").unlink()
    sweep(now=timezone.now() + timedelta(hours=1))
    assert not work[0].exists()
    assert list((disk / "reaped").glob("*.patch"))
