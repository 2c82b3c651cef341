"""Whoever of a session is killed, whenever: nobody of it is left. Real processes, found by a census of our own.

bin/test tests/runners/test_kills.py            some kills, as every bin/test does
bin/test -m slow tests/runners/test_kills.py    a hundred, and as many in sandboxes
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runners import sandbox_obstacle
from tests.runners.kills import VICTIMS, chosen, left_by

NO_SANDBOXES = sandbox_obstacle()


def seed() -> int:
    """A new one each time; a failure tells it."""
    return random.randrange(1_000_000)


@pytest.mark.timeout(240)
@pytest.mark.no_cover
def test_a_few_kills_leave_nobody(tmp_path: Path) -> None:
    used = seed()
    some = chosen(2 * len(VICTIMS), seed=used, sandboxes=not NO_SANDBOXES)
    assert left_by(some, tmp_path) == [], f"seed {used}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "sandboxes", [False, pytest.param(True, marks=pytest.mark.skipif(bool(NO_SANDBOXES), reason=NO_SANDBOXES))]
)
def test_a_hundred_kills_leave_nobody(tmp_path: Path, sandboxes: bool) -> None:
    used = seed()
    assert left_by(chosen(100, seed=used, sandboxes=sandboxes), tmp_path) == [], f"seed {used}"
