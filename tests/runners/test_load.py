"""Runners are found by their dotted path."""

import subprocess
import sys
from pathlib import Path

import pytest

import runners
from runners import load_runner
from runners.script import ScriptRunner

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["claude", "script", "function"])
def test_a_runner_is_loaded_once_and_fulfils_the_contract(name: str) -> None:
    runner = load_runner(f"runners.{name}.{name.capitalize()}Runner")
    assert runner is load_runner(f"runners.{name}.{name.capitalize()}Runner")
    assert runner.name == name
    assert all(runner.problems({}).values())


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(ImportError):
        load_runner("runners.nowhere.NowhereRunner")
    with pytest.raises(AttributeError):
        load_runner("runners.script.NowhereRunner")


def test_the_door_has_all_it_names() -> None:
    assert len(set(runners.__all__)) == len(runners.__all__)
    assert all(hasattr(runners, name) for name in runners.__all__)
    assert load_runner("runners.script.ScriptRunner").__class__ is ScriptRunner


def test_the_door_brings_neither_django_nor_celery_nor_the_rest_of_rota() -> None:
    program = "import sys, runners, runners.claude, runners.script, runners.function; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in told.stdout.split()}
    assert roots.isdisjoint({"django", "celery", "kombu", "schedules", "config"})
