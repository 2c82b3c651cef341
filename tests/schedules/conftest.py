"""Where sessions run in their tests: folders of their own, a repository, a worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.models import Repository, WorkerHeartbeat
from tests.schedules.factories import make_worker
from tests.schedules.places import end_sessions, make_shop, use_folders


@pytest.fixture
def folders(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    """Rota's own, with agents that are rehearsed; what still runs there is ended."""
    use_folders(settings, tmp_path)
    settings.ROTA_REHEARSE = True
    yield tmp_path
    end_sessions(tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_shop(tmp_path)


@pytest.fixture
def worker() -> WorkerHeartbeat:
    return make_worker(now=timezone.now())
