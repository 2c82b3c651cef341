"""Django's system checks of Rota."""

from pathlib import Path

import pytest
from django.core.checks import CheckMessage
from pytest_django import Settings

from schedules import checks


def ids(found: list[CheckMessage]) -> list[str]:
    for message in found:
        assert message.hint, "a check says what to do"
    return [str(message.id) for message in found]


def test_this_house_is_in_order(broker: str) -> None:
    found = [
        *checks.clock_is_aware(None),
        *checks.git_is_there(None),
        *checks.zones_are_there(None),
        *checks.runners_are_there(None),
        *checks.programs_are_there(None),
        *checks.broker_answers(None),
        *checks.secret_key_is_long(None),
    ]
    assert found == []


def test_naive_times_are_refused(settings: Settings) -> None:
    settings.USE_TZ = False
    assert ids(checks.clock_is_aware(None)) == ["rota.E001"]


@pytest.mark.parametrize("said", [None, "git version 2.20.1", "nonsense"])
def test_git_that_is_missing_or_too_old_is_told(
    said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ids(checks.git_is_there(None)) == ["rota.E002"]


def test_a_zone_that_is_missing_is_told(settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Atlantis"
    assert ids(checks.zones_are_there(None)) == ["rota.E003"]


def test_a_runner_that_can_not_be_loaded_is_told(settings: Settings) -> None:
    settings.ROTA_RUNNERS = {"gone": "runners.gone.Runner", "odd": "runners.script.Nobody"}
    assert ids(checks.runners_are_there(None)) == ["rota.E004", "rota.E004"]
    assert checks.programs_are_there(None) == []


def test_an_agent_program_that_is_missing_is_told(settings: Settings, tmp_path: Path) -> None:
    settings.ROTA_PROGRAMS = {"claude": str(tmp_path / "claude")}
    (found,) = checks.programs_are_there(None)
    assert found.id == "rota.W001"
    assert "ROTA_CLAUDE_PROGRAM" in str(found.hint)


def test_an_agent_program_that_is_older_than_what_was_tried_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "claude").write_text("#!/bin/sh\necho '2.1.300 (Claude Code)'\n")
    (tmp_path / "claude").chmod(0o755)
    settings.ROTA_PROGRAMS = {"claude": str(tmp_path / "claude")}
    (found,) = checks.programs_are_there(None)
    assert found.id == "rota.W005"
    assert "2.1.300 is older than 2.1.327" in str(found.msg)
    assert "Update it" in str(found.hint)


def test_an_agent_that_nobody_counts_on_may_be_missing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.programs_are_there(None) == []

    settings.ROTA_CREDENTIALS = {"OPENAI_API_KEY": "a key"}
    (found,) = checks.programs_are_there(None)
    assert "codex" in found.msg
    assert "ROTA_CODEX_PROGRAM" in str(found.hint)


def test_a_broker_that_is_away_is_told(settings: Settings, tmp_path: Path) -> None:
    settings.CELERY_BROKER_URL = f"redis+socket://{tmp_path}/nobody.sock"
    assert ids(checks.broker_answers(None)) == ["rota.W002"]


def test_a_short_key_is_told(settings: Settings) -> None:
    settings.SECRET_KEY = "short"
    assert ids(checks.secret_key_is_long(None)) == ["rota.W003"]


def test_a_machine_that_can_make_no_sandbox_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = checks.sandbox_can_be_made(None)
    assert found.id == "rota.W004"
    assert "Install the package bubblewrap" in found.msg
    assert found.hint


def test_a_machine_that_can_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.sandbox_can_be_made(None) == []
