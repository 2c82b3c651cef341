import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runners import rehearsal, rehearsals
from runners.base import Conversation, OptionsInvalid, ProgramMissing, Runner
from runners.claude import ClaudeRunner
from runners.codex import HELD, MINIMUM_VERSION, UNTRUSTED, CodexRunner
from runners.codex_options import NOT_KNOWN
from runners.rehearsal import API_KEY
from runners.result_lines import ResultLine
from tests.runners import codex_sessions
from tests.runners.claude_sessions import say, use
from tests.runners.codex_sessions import (
    NEWER,
    NO_CODEX,
    PREFIX,
    RECORDED,
    STREAMS,
    WITHOUT_NAMESPACES,
    converse,
    run,
)

RUNNER: Runner = CodexRunner()
DONE = [say("Done.")]
BASH = "Bash"

needs_codex = pytest.mark.skipif(not codex_sessions.program(), reason=NO_CODEX)


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


# The real program, against a scripted model


@needs_codex
def test_the_real_program_is_new_enough() -> None:
    assert (found := RUNNER.program(codex_sessions.program()))
    assert tuple(map(int, found.version.split("."))) >= MINIMUM_VERSION


@needs_codex
@pytest.mark.parametrize("model", ["gpt-5.5", NEWER, "one-that-codex-does-not-know"])
def test_the_real_program_does_what_the_recordings_show(tmp_path: Path, model: str) -> None:
    session = converse(tmp_path, "writes-a-file", options={"model": model})

    assert (session.result.outcome, session.result.reason) == ("succeeded", "ok")
    assert (session.result.model, session.result.turns) == (model, 3)
    assert (tmp_path / "workspace" / "notes.md").read_text() == "Written in a rehearsal.\n"
    assert session.tally.agent_session_id
    assert not [event for event in session.events if event.kind == "output"]


@needs_codex
def test_a_prompt_reaches_the_model_as_it_is_and_whole(tmp_path: Path) -> None:
    """It is no command and no option, no file is read for it, and it may be longer than an argument can be."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret is 4711")
    prompt = f"/cost --help @{secret} @../secret.txt !date $imagegen\n#memory\n" + "No news is good news. " * 10_000
    session = converse(tmp_path, DONE, prompt=prompt)

    assert session.result.reason == "ok"
    assert session.requests[0].prompt == prompt
    assert "4711" not in json.dumps(session.requests[0].body)


@needs_codex
def test_what_the_agent_may_write_and_reach(tmp_path: Path) -> None:
    """Its checkout, but not what git runs there, and its temporary folder. Nothing else, and no network."""
    places = {
        "checkout": "inside",
        "git": ".git/hooks/pre-commit",
        "temporary": "$TMPDIR/x",
        "home": "$HOME/x",
        "codex": "$CODEX_HOME/x",
        "outside": f"{tmp_path}/outside",
    }
    written = "; ".join(f"touch {place} && echo {name} written" for name, place in places.items())
    command = f"{written}; curl -sS -m 2 $OPENAI_BASE_URL http://127.0.0.1:1; exit 0"
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "workspace")], check=True)
    session = converse(tmp_path, [use((BASH, {"command": command})), *DONE])
    seen = next(event.text for event in session.events if event.kind == "tool_result")

    assert re.findall(r"(\w+) written", seen) == ["checkout", "temporary"]
    assert not (tmp_path / "outside").exists()
    assert session.result.reason == "ok"


@needs_codex
def test_the_agent_does_not_see_the_key_and_sees_the_secrets_of_its_schedule(tmp_path: Path) -> None:
    look = use((BASH, {"command": "env; cat /proc/*/environ | tr '\\0' '\\n'; echo; echo seen"}))
    keys = {"OPENAI_API_KEY": "key-4711", "CODEX_API_KEY": "key-4712", "DEPLOY_TOKEN": "token-4713"}
    session = converse(tmp_path, [look, *DONE], environment=keys)
    seen = next(event.text for event in session.events if event.kind == "tool_result")

    assert "DEPLOY_TOKEN=token-4713" in seen
    assert f"HOME={tmp_path}/home\n" in seen
    assert not re.search("key-471[12]", seen)
    assert session.requests[0].headers["authorization"] == "Bearer key-4712"


@needs_codex
@pytest.mark.parametrize("trusted", [False, True])
def test_the_settings_of_a_repository_count_only_when_it_is_trusted(tmp_path: Path, trusted: bool) -> None:
    workspace = tmp_path / "workspace"
    hook = {"type": "command", "command": f"touch {tmp_path}/hooked"}
    files = {
        "AGENTS.md": "Always answer in verse.",
        ".agents/skills/rhyme/SKILL.md": "---\nname: rhyme\ndescription: Rhymes.\n---\nMake it rhyme.\n",
        ".codex/hooks.json": json.dumps({"hooks": {"SessionStart": [{"hooks": [hook]}]}}),
        ".codex/config.toml": (
            'sandbox_mode = "danger-full-access"\ndeveloper_instructions = "Be rude."\n'
            "[sandbox_workspace_write]\nnetwork_access = true\n"
            f'[mcp_servers.theirs]\ncommand = "touch"\nargs = ["{tmp_path}/served"]\n'
        ),
    }
    for name, text in files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(workspace)], check=True)
    options = {"setting_sources": ["project"] if trusted else []}
    look = use((BASH, {"command": f"touch {tmp_path}/outside; exit 0"}))
    session = converse(tmp_path, [look, *DONE], prompt="Write $rhyme.", options=options)
    asked = json.dumps(session.requests[0].body)

    assert session.result.reason == "ok"
    assert [words in asked for words in ("in verse", "Make it rhyme", "Be rude")] == [trusted] * 3
    assert (tmp_path / "served").exists() == trusted
    assert not (tmp_path / "hooked").exists()
    assert not (tmp_path / "outside").exists()


@needs_codex
@pytest.mark.parametrize("model", ["gpt-5.5", NEWER])
def test_a_conversation_is_gone_on_with_in_another_home_and_workspace(tmp_path: Path, model: str) -> None:
    look = use((BASH, {"command": "echo 4711"}))
    options = {"append_system_prompt": "Speak as 1.", "model": model}
    first = converse(tmp_path / "1", [look, say("I am Ada.")], prompt="Who are you?", options=options)
    second = go_on(first.spec, tmp_path / "ä long way", "And your last name?", "Lovelace.")
    third = go_on(second.spec, tmp_path / "3", "Your birthday?", "10 December.")

    asked = json.dumps(third.requests[0].body["input"])
    words = ["Who are you?", "4711", "I am Ada.", "And your last name?", "Lovelace.", "Your birthday?"]
    assert sorted(words, key=asked.index) == words
    assert third.requests[0].prompt == "Your birthday?"
    assert re.findall("Speak as .*?[.]", asked) == ["Speak as 3."]
    assert third.tally.agent_session_id == third.spec.agent_session_id
    assert third.result.turns == 1
    assert third.result.input_tokens < third.events[-1].data["input_tokens"]


def go_on(earlier: Any, folder: Path, prompt: str, answer: str) -> Any:
    conversation = RUNNER.conversation(earlier)
    assert conversation is not None
    before = conversation.file.read_bytes()
    shutil.rmtree(earlier.workspace)
    options = {"append_system_prompt": f"Speak as {folder.name}.", "model": earlier.options["model"]}
    session = converse(folder, [say(answer)], prompt=prompt, conversation=conversation, options=options)
    assert (session.result.reason, session.result.result) == ("ok", answer)
    assert conversation.file.read_bytes() == before
    return session


@needs_codex
def test_an_answer_can_be_held_to_a_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    session = converse(tmp_path, [say('{"a": 1}')], options={"json_schema": schema})

    assert session.requests[0].body["text"]["format"]["schema"] == schema
    assert session.result.result == '{"a": 1}'


@needs_codex
def test_when_a_usage_limit_is_lifted_whatever_the_zone_of_its_schedule(tmp_path: Path) -> None:
    lifted_at = int(time.time()) + 3 * 86400
    limit = {"status": 429, "type": "usage_limit_reached", "message": "Reached", "resets_at": lifted_at}
    script = [use(("Bash", {"command": "date +%Z"})), {"error": limit, "times": 9}]
    session = converse(tmp_path, script, environment={"TZ": "Asia/Tokyo"})

    assert session.result.reason == "rate_limited"
    assert session.result.resets_at is not None
    assert lifted_at <= session.result.resets_at <= lifted_at + 60
    assert "JST" in json.dumps(session.requests[-1].body), "what it runs has the zone of its schedule"


@needs_codex
def test_a_session_that_is_asked_to_end_leaves_nobody(tmp_path: Path) -> None:
    """`converse` sees to it that nobody is left."""
    tool = use((BASH, {"command": "sleep 600"}))
    session = converse(tmp_path, [tool], limits={"timeout": 1.5})

    assert session.result.reason == "timed_out"


@needs_codex
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*WITHOUT_NAMESPACES, "true"], capture_output=True).returncode != 0,
    reason="unshare can't show what it is like where no namespaces can be made.",
)
@pytest.mark.parametrize("model", ["gpt-5.5", NEWER])
def test_where_no_sandbox_can_be_made_nothing_runs_without_one(tmp_path: Path, model: str) -> None:
    tools = use((BASH, {"command": "touch inside"}))
    session = converse(tmp_path, [tools, *DONE], around=WITHOUT_NAMESPACES, options={"model": model})

    assert not (tmp_path / "workspace" / "inside").exists()
    assert (session.result.outcome, session.result.reason) == ("failed", "sandbox_unavailable")


# Rehearsed


@needs_codex
@pytest.mark.parametrize("model", ["gpt-5.5", NEWER])
def test_a_rehearsal_of_a_schedule_that_edits(tmp_path: Path, model: str) -> None:
    spec = codex_sessions.make_spec(
        tmp_path,
        rehearse=True,
        prompt="Tidy up.\nThen rest.",
        options={"model": model},
        environment={"OPENAI_API_KEY": "real-key", "HTTPS_PROXY": "http://192.0.2.1:3128"},
    )
    git = ["git", "-C", str(spec.workspace), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "First light"], check=True)
    session = run(spec)

    assert (session.result.outcome, session.result.reason) == ("succeeded", "ok")
    assert session.result.result.startswith("This was a rehearsal.")
    assert "> Tidy up.\n> Then rest." in session.result.result
    assert "First light" in session.result.result
    assert (session.result.cost_usd, session.result.turns, session.result.model) == (0, 3, model)
    assert (spec.workspace / rehearsals.WRITTEN_FILE).is_file()
    assert not {"OPENAI_API_KEY", "HTTPS_PROXY"} & set(session.launch.environment)


@needs_codex
def test_a_rehearsal_keeps_to_what_is_allowed(tmp_path: Path) -> None:
    spec = codex_sessions.make_spec(tmp_path, rehearse=True, options={"permission_mode": "plan"})
    session = run(spec)

    assert (session.result.reason, session.result.turns) == ("ok", 2)
    assert "A small project." in session.result.result
    assert sorted(file.name for file in spec.workspace.iterdir()) == ["README.md"]


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
