"""Which program an agent has on this machine, and whether it works or is rehearsed."""

import logging
from pathlib import Path

import pytest
from pytest_django import Settings

from schedules import agents
from schedules.agents import Rehearsed, find_programs, rehearsed, rehearsed_agents, tell_programs

NO_CLAUDE_KEY = Rehearsed(why="No API key", mend="ANTHROPIC_API_KEY")
NO_CODEX_KEY = Rehearsed(why="No API key", mend="OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def _unset(settings: Settings) -> None:
    settings.ROTA_REHEARSE = None
    settings.ROTA_CREDENTIALS = {}


def test_each_agent_goes_by_its_own_key(settings: Settings) -> None:
    assert rehearsed_agents() == {"claude": NO_CLAUDE_KEY, "codex": NO_CODEX_KEY}
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "made-up"}
    assert rehearsed_agents() == {"codex": NO_CODEX_KEY}
    settings.ROTA_CREDENTIALS = {"CODEX_API_KEY": "made-up"}
    assert rehearsed_agents() == {"claude": NO_CLAUDE_KEY}
    settings.ROTA_CREDENTIALS |= {"CLAUDE_CODE_OAUTH_TOKEN": "made-up"}
    assert rehearsed_agents() == {}


def test_an_address_is_no_key(settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {"OPENAI_BASE_URL": "http://gateway.example", "ANTHROPIC_API_KEY": ""}
    assert set(rehearsed_agents()) == {"claude", "codex"}


@pytest.mark.parametrize("credentials", [{}, {"ANTHROPIC_API_KEY": "made-up", "OPENAI_API_KEY": "made-up"}])
def test_the_setting_goes_before_keys(settings: Settings, credentials: dict[str, str]) -> None:
    settings.ROTA_CREDENTIALS = credentials
    settings.ROTA_REHEARSE = False
    assert rehearsed_agents() == {}
    settings.ROTA_REHEARSE = True
    by_wish = Rehearsed(why="ROTA_REHEARSE is on", mend="ROTA_REHEARSE=false")
    assert rehearsed_agents() == {"claude": by_wish, "codex": by_wish}


@pytest.mark.parametrize("name", ["script", "function", "gone", "odd"])
def test_what_is_no_agent_is_not_rehearsed(settings: Settings, name: str) -> None:
    settings.ROTA_RUNNERS = {**settings.ROTA_RUNNERS, "odd": "runners.gone.Runner"}
    settings.ROTA_REHEARSE = True
    assert rehearsed(name) is None


def program(folder: Path, version: str) -> str:
    file = folder / "claude"
    file.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    file.chmod(0o755)
    return str(file)


def test_programs_are_found_with_their_versions_or_why_not(settings: Settings, tmp_path: Path) -> None:
    path = program(tmp_path, "2.1.300")
    settings.ROTA_PROGRAMS = {"claude": path, "codex": str(tmp_path / "codex")}
    found = find_programs()

    assert found["claude"]["version"] == "2.1.300"
    assert found["claude"]["path"] == path
    assert "is older than 2.1.327, the oldest that was tried" in found["claude"]["remark"]
    assert f"There is no Codex at {tmp_path}/codex" in found["codex"]["missing"]
    assert set(found) == {"claude", "codex"}


def test_what_is_new_of_them_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, agents.__name__)
    first = {"claude": {"version": "2.1.327", "path": "/c"}, "codex": {"missing": "There is none."}}
    tell_programs(first, before={})
    tell_programs(first, before=first)
    tell_programs({"claude": {"version": "2.1.200", "path": "/c", "remark": "It is old."}}, before=first)

    assert [record.getMessage() for record in caplog.records] == [
        "Agent claude: 2.1.327, /c",
        "Agent codex: There is none.",
        "Agent claude: 2.1.200, before 2.1.327, /c",
        "Agent claude: It is old.",
    ]
