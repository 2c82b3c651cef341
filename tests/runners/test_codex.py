"""Codex: which program that is, its options, and how it is started."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runners import rehearsal
from runners.base import Conversation, OptionsInvalid, ProgramMissing, Runner
from runners.claude import ClaudeRunner
from runners.codex import HELD, UNTRUSTED, CodexRunner
from runners.codex_options import NOT_KNOWN
from runners.rehearsal import API_KEY
from runners.result_lines import ResultLine
from tests.runners import codex_sessions
from tests.runners.codex_sessions import (
    PREFIX,
    RECORDED,
    STREAMS,
)

RUNNER: Runner = CodexRunner()


def program(file: Path, text: str = "echo 'codex-cli 9.9.9'", mode: int = 0o755) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(mode)
    return str(file)


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., Any]:
    """Specs whose program is one that does no more than tell a version."""
    path = program(tmp_path / "bin" / "codex")
    return lambda **changes: codex_sessions.make_spec(tmp_path, **{"program": path, **changes})


def settings_of(argv: Any) -> dict[str, Any]:
    """The settings on a command line, by their dotted names."""
    given = (word.removeprefix("--config=").partition("=") for word in argv if word.startswith("--config="))
    return {key: tomllib.loads(f"value = {value}")["value"] for key, _, value in given}


# What it would start


def test_a_given_program_comes_first_and_its_version_is_remembered(tmp_path: Path) -> None:
    path = program(tmp_path / "codex", f"echo x >> {tmp_path}/asked; echo 'codex-cli 9.8.7'")

    assert [RUNNER.program(path), RUNNER.program(path)] == [RUNNER.program(path)] * 2
    assert (found := RUNNER.program(path))
    assert (found.path, found.version) == (path, "9.8.7")
    assert (tmp_path / "asked").read_text() == "x\n"


def test_without_one_it_is_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path / "codex")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert (found := RUNNER.program())
    assert found.path == path


def test_instead_of_the_script_of_npm_it_is_what_the_script_starts(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules" / "@openai"
    script = Path(program(modules / "codex" / "bin" / "codex.js", "echo 'a script'"))
    (tmp_path / "codex").symlink_to(script)
    itself = program(modules / "codex-linux-x64" / "vendor" / "x86_64-unknown-linux-musl" / "bin" / "codex")

    assert (found := RUNNER.program(str(tmp_path / "codex")))
    assert found.path == itself


def test_a_script_of_npm_without_its_program_is_refused_by_what_it_says(tmp_path: Path) -> None:
    script = program(tmp_path / "codex" / "bin" / "codex.js", "echo 'Missing optional dependency' >&2; exit 1")

    with pytest.raises(ProgramMissing, match=r"does not seem to be Codex.*Missing optional dependency"):
        RUNNER.program(script)


def test_a_program_is_asked_for_its_version_without_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "secret")
    RUNNER.program(program(tmp_path / "codex", f"env > {tmp_path}/seen; echo 'codex-cli 9.9.9'"))

    assert "CANARY" not in (tmp_path / "seen").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo 'codex-cli 0.99.1'", r"is Codex 0\.99\.1; Rota needs 0\.160\.0 or newer"),
        ("echo '9.9.9 (Claude Code)'", "does not seem to be Codex"),
        ("exit 1", "does not seem to be Codex"),
    ],
)
def test_a_program_that_will_not_do(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProgramMissing, match=words):
        RUNNER.program(program(tmp_path / "codex", text))


@pytest.mark.parametrize("path", ["/nowhere/codex", "codex", "/etc"])
def test_a_program_that_is_not_there(path: str) -> None:
    with pytest.raises(ProgramMissing, match=f"There is no Codex at {path}"):
        RUNNER.program(path)


def test_a_machine_without_codex_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ProgramMissing, match=r"There is no Codex on PATH\. Install it"):
        RUNNER.program()


# Options


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "gpt-6-luna", "permission_mode": "acceptEdits", "setting_sources": ["project"]},
        {"model": "openai/gpt-oss-120b", "permission_mode": "plan", "append_system_prompt": "-x"},
        {"permission_mode": "", "fallback_model": "", "allowed_tools": [], "max_turns": None, "max_budget_usd": None},
        {"json_schema": {"type": "object"}, "rehearsal_script": "overloaded"},
    ],
)
def test_options_that_are_well(options: dict[str, Any]) -> None:
    assert RUNNER.problems({"model": "gpt-5.5", **options}) == {}


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"model": ""}, "model", "Name a model"),
        ({"model": "--help"}, "model", "no model's name"),
        ({"model": 'x"'}, "model", "no model's name"),
        ({"permission_mode": "auto"}, "permission_mode", "none of dontAsk, acceptEdits, plan"),
        ({"permission_mode": "bypassPermissions"}, "permission_mode", "none of dontAsk"),
        ({"setting_sources": ["user"]}, "setting_sources", "Choose project or none"),
        ({"setting_sources": "project"}, "setting_sources", "Choose project or none"),
        ({"append_system_prompt": "x" * 200_000}, "append_system_prompt", "at most 100 kB"),
        ({"append_system_prompt": "a\0b"}, "append_system_prompt", "Give a text"),
        ({"json_schema": ["object"]}, "json_schema", "Give a JSON schema"),
        ({"rehearsal_script": "no-such"}, "rehearsal_script", "Known are: .*overloaded"),
        ({"effort": "max"}, "effort", "none of low, medium, high, xhigh"),
        ({"plugins": ["tools/x"]}, "plugins", "loads no plugins"),
        ({"agents": {"a": {}}}, "agents", "no subagents"),
        ({"fallback_model": "gpt-5.4"}, "fallback_model", "no other model"),
        ({"allowed_tools": ["Read"]}, "allowed_tools", "no list of tools"),
        ({"disallowed_tools": ["Bash"]}, "disallowed_tools", "no list of tools"),
        ({"max_turns": 5}, "max_turns", "no cap on turns"),
        ({"max_budget_usd": "0.50"}, "max_budget_usd", "does not reckon"),
    ],
)
def test_options_with_a_problem(options: dict[str, Any], field: str, words: str) -> None:
    problems = RUNNER.problems({"model": "gpt-5.5", **options})

    assert list(problems) == [field]
    assert re.search(words, problems[field])


def test_no_option_of_claude_is_left_out_silently() -> None:
    """What a schedule can set for an agent is used, or refused with a sentence of its own."""
    of_the_worker = {"plugin_folders"}

    assert set(ClaudeRunner.options) - of_the_worker == {*set(ClaudeRunner.options) & set(RUNNER.options), *NOT_KNOWN}


# How it is started


def test_each_value_is_bound_to_its_option(make_spec: Callable[..., Any]) -> None:
    spec = make_spec(options={"append_system_prompt": '--dangerous "x"\n\x7fé', "json_schema": {"type": "object"}})
    argv = list(RUNNER.launch(spec).argv)

    assert argv[1:7] == [
        "exec",
        "--json",
        "--model=gpt-5.5",
        "--skip-git-repo-check",
        "--ignore-rules",
        f"--output-schema={spec.home}/result-schema.json",
    ]
    assert all(word.startswith("--config=") for word in argv[7:-1])
    assert argv[-1] == "-"
    assert settings_of(argv)["developer_instructions"] == '--dangerous "x"\n\x7fé'


def test_the_prompt_is_on_standard_input(make_spec: Callable[..., Any]) -> None:
    launch = RUNNER.launch(make_spec(prompt="--help é"))

    assert launch.files[launch.stdin_file] == "--help é".encode()
    assert not [word for word in launch.argv if "help" in word]


@pytest.mark.parametrize(
    ("mode", "sandbox"),
    [
        ("", "workspace-write"),
        ("dontAsk", "workspace-write"),
        ("acceptEdits", "workspace-write"),
        ("plan", "read-only"),
    ],
)
def test_the_permission_mode_chooses_the_sandbox(make_spec: Callable[..., Any], mode: str, sandbox: str) -> None:
    settings = settings_of(RUNNER.launch(make_spec(options={"permission_mode": mode})).argv)

    assert settings["sandbox_mode"] == sandbox
    assert settings["approval_policy"] == "never"
    assert HELD.items() <= settings.items()


def test_a_repository_is_trusted_only_when_the_schedule_says_so(make_spec: Callable[..., Any]) -> None:
    plain = RUNNER.launch(spec := make_spec()).argv
    trusting = RUNNER.launch(make_spec(options={"setting_sources": ["project"]})).argv

    assert settings_of(plain)["projects"] == {str(spec.workspace): {"trust_level": "untrusted"}}
    assert settings_of(trusting)["projects"] == {str(spec.workspace): {"trust_level": "trusted"}}
    assert UNTRUSTED.items() <= settings_of(plain).items()
    assert not UNTRUSTED.keys() & settings_of(trusting).keys()
    assert "--ignore-rules" not in trusting


def test_a_repository_need_not_be_excused(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()
    (spec.workspace / ".git").mkdir()

    assert "--skip-git-repo-check" not in RUNNER.launch(spec).argv


@pytest.mark.parametrize(
    ("environment", "url", "key"),
    [
        ({"OPENAI_API_KEY": "k"}, "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": "k", "CODEX_API_KEY": "c"}, "https://api.openai.com/v1", "CODEX_API_KEY"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "http://127.0.0.1:9/v1", "OPENAI_API_KEY"),
    ],
)
def test_where_the_model_is(make_spec: Callable[..., Any], environment: dict[str, str], url: str, key: str) -> None:
    settings = settings_of(RUNNER.launch(make_spec(environment=environment)).argv)

    assert settings["model_provider"] == "rota"
    assert settings["model_providers.rota"]["base_url"] == url
    assert settings["model_providers.rota"]["env_key"] == key


def test_nothing_of_ours_is_in_its_environment(make_spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    spec = make_spec(environment={"CODEX_HOME": "/elsewhere", "TEAM": "a"})
    environment = RUNNER.launch(spec).environment

    assert "secret" not in environment.values()
    assert environment["CODEX_HOME"] == f"{spec.home}/.codex"
    assert environment["TEAM"] == "a"


def test_codex_home_lies_outside_of_the_temporary_folder(make_spec: Callable[..., Any]) -> None:
    """There Codex would not lay the programs that its sandbox needs."""
    environment = RUNNER.launch(make_spec()).environment

    assert not Path(environment["CODEX_HOME"]).is_relative_to(environment["TMPDIR"])
    assert Path(environment["CODEX_HOME"]).is_relative_to(environment["HOME"])


def test_skills_of_a_repository_that_is_not_trusted_are_off(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()
    for folder in (".agents/skills/a", ".codex/skills/b/c", "docs/d"):
        (spec.workspace / folder).mkdir(parents=True)
        (spec.workspace / folder / "SKILL.md").write_text("---\nname: x\n---\n")
    (spec.workspace / ".agents" / "skills" / "linked").symlink_to("../../docs/d")
    (spec.workspace / ".agents" / "skills" / "a" / "round").symlink_to(".")
    skills = tomllib.loads(RUNNER.launch(spec).files[".codex/config.toml"].decode())["skills"]["config"]
    found = {Path(skill["path"]).relative_to(spec.workspace) for skill in skills}

    assert {
        Path(f".{name}/SKILL.md") for name in ("agents/skills/a", "agents/skills/linked", "codex/skills/b/c")
    } <= found
    assert not [skill for skill in skills if skill["enabled"]]
    assert len(found) < 20

    trusting = make_spec(options={"setting_sources": ["project"]})
    assert tomllib.loads(RUNNER.launch(trusting).files[".codex/config.toml"].decode()) == {"skills": {"config": []}}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"options": {"max_turns": 3}}, "max_turns"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "x" * 1_048_577}, "prompt"),
        ({"agent_session_id": "--help"}, "agent_session_id"),
        ({"conversation": Conversation(agent_session_id=str(UUID(int=1)), file=Path("/nowhere"))}, "conversation"),
        ({"conversation": Conversation(agent_session_id=str(UUID(int=1)), file=Path(__file__))}, "conversation"),
        ({"environment": {"LD_PRELOAD": "/x.so"}}, "environment"),
    ],
)
def test_what_can_not_be_launched(make_spec: Callable[..., Any], changes: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionsInvalid) as refused:
        RUNNER.launch(make_spec(**changes))

    assert list(refused.value.problems) == [field]


def test_what_it_reads_is_its_program_and_what_came_with_it(tmp_path: Path) -> None:
    path = program(tmp_path / "vendor" / "bin" / "codex")
    spec = codex_sessions.make_spec(tmp_path, program=path)
    assert RUNNER.launch(spec).reads == (path,)

    (tmp_path / "vendor" / "codex-package.json").write_text("{}")
    assert RUNNER.launch(spec).reads == (str(tmp_path / "vendor"),)


@pytest.mark.parametrize("name", RECORDED)
def test_the_shim_knows_the_result_line(make_spec: Callable[..., Any], name: str) -> None:
    """A turn that failed has none: Codex ends by itself after it."""
    knows = ResultLine(kind=RUNNER.launch(make_spec()).result_type)
    lines = (STREAMS / f"{PREFIX}{name}.jsonl").read_bytes().splitlines()[1:]

    assert sum(map(knows.is_result, lines)) == sum(b'"turn.completed"' in line for line in lines) <= 1


def test_a_conversation_that_was_not_kept_is_none(make_spec: Callable[..., Any]) -> None:
    assert RUNNER.conversation(make_spec()) is None


# Rehearsed


def test_no_real_key_is_given_to_a_program_that_is_rehearsed(make_spec: Callable[..., Any]) -> None:
    keys = {"OPENAI_API_KEY": "key-4711", "CODEX_API_KEY": "key-4711", "CODEX_ACCESS_TOKEN": "key-4711", "TEAM": "a"}
    spec = make_spec(rehearse=True, environment=keys)
    launch = RUNNER.launch(spec)

    assert "key-4711" not in json.dumps([list(launch.argv), dict(launch.environment)])
    assert settings_of(launch.argv)["model_providers.rota"]["base_url"] == "{{ model_url }}/v1"
    assert launch.environment["TEAM"] == "a"
    assert API_KEY not in launch.environment.values()  # the program around it gives it
    assert launch.environment["CODEX_HOME"] == f"{spec.home}/.codex"


def test_the_address_of_the_scripted_model_stands_in_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"end": "Over."}')
    code = (
        "import os, sys, urllib.request as r\n"
        "key = os.environ['OPENAI_API_KEY']\n"
        'print(key, r.urlopen(sys.argv[1] + \'/responses\', b\'{"tools": [{"name": "x"}]}\').read().decode())'
    )
    command = [sys.executable, "-I", "-S", "-c", code, "{{ model_url }}/v1"]
    around = [sys.executable, "-I", "-S", rehearsal.__file__, str(tmp_path / "script.json"), "--", *command]
    done = subprocess.run(
        around, env={"OPENAI_API_KEY": "real"}, capture_output=True, text=True, timeout=20, check=True
    )
    key, _, said = done.stdout.partition(" ")

    assert key == API_KEY
    assert json.loads(said)["output"][0]["content"][0]["text"] == "Over."
