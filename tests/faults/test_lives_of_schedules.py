"""Each due time runs once, or says why not, through whatever a schedule lives."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.house import bounded_part
from tests.faults.lives_of_schedules import Lives


@pytest.mark.django_db
@pytest.mark.no_cover
@pytest.mark.timeout(3600)
def test_whatever_schedules_live_through_each_due_time_is_on_record_once() -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=bounded_part(150, 8),
            stateful_step_count=bounded_part(50, 30),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
