"""Through whatever sessions live, no limit is passed, nothing is lost or done twice, and what they say is so."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examined
from hypothesis.stateful import run_state_machine_as_test
from pytest_django import Settings

from tests.faults.chances import MOST, MOST_IN_REPOSITORY
from tests.faults.house import bounded_part
from tests.faults.lives_of_sessions import LivesOfSessions


@pytest.mark.django_db(transaction=True)
@pytest.mark.no_cover
@pytest.mark.timeout(3600)
def test_whatever_sessions_live_through_is_as_the_book_says(settings: Settings) -> None:
    settings.ROTA_MAX_SESSIONS, settings.ROTA_MAX_SESSIONS_PER_REPOSITORY = MOST, MOST_IN_REPOSITORY
    settings.ROTA_REHEARSE, settings.ROTA_RESERVE_USD = False, Decimal("1.00")
    settings.TIME_ZONE = "UTC"
    run_state_machine_as_test(
        LivesOfSessions,
        settings=examined(
            max_examples=bounded_part(300, 4),
            stateful_step_count=bounded_part(50, 25),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
