"""One list of reasons for every finished row."""

import inspect

import runners
from runners import RunnerError, verdict
from schedules.models import Reason


def test_every_reason_that_a_verdict_can_give_has_words() -> None:
    assert set(verdict.REASONS) <= set(Reason.values)


def test_every_error_of_a_runner_has_words() -> None:
    errors = [error for _, error in inspect.getmembers(runners, inspect.isclass) if issubclass(error, RunnerError)]
    reasons = {error.reason for error in errors if error is not RunnerError}
    assert reasons <= set(Reason.values) | {"runner_error"}
