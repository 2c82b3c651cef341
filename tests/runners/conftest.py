"""What tests of runners share."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runners.repositories import Source


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Source]:
    """Makes real, empty git repositories. The machine's own git configuration plays no part."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    numbers = itertools.count(1)
    return lambda: Source(tmp_path / f"source-{next(numbers)}")
