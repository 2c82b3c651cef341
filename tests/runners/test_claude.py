import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runners.base import Conversation, OptionsInvalid, ProgramMissing, Runner
from runners.claude import MINIMUM_VERSION, QUIET, ClaudeRunner
from runners.result_lines import ResultLine
from tests.runners.claude_sessions import RECORDED, STREAMS, converse, make_spec, run, say, use

RUNNER: Runner = ClaudeRunner()
DONE = [say("Done.")]


def program(folder: Path, text: str, mode: int = 0o755) -> str:
    file = folder / "claude"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(mode)
    return str(file)


# What it would start


def test_the_program_is_the_one_in_the_wheel() -> None:
    found = RUNNER.program()

    assert found is not None
    assert found.path.endswith("claude_agent_sdk/_bundled/claude")
    assert tuple(map(int, found.version.split("."))) >= MINIMUM_VERSION


def test_a_given_program_comes_first_and_its_version_is_remembered(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo x >> {tmp_path}/asked; echo '9.8.7 (Claude Code)'")

    assert [RUNNER.program(path), RUNNER.program(path)] == [RUNNER.program(path)] * 2
    assert (found := RUNNER.program(path))
    assert (found.path, found.version) == (path, "9.8.7")
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_program_is_asked_for_its_version_without_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "secret")
    RUNNER.program(program(tmp_path, f"env > {tmp_path}/seen; echo '9.9.9 (Claude Code)'"))

    assert "CANARY" not in (tmp_path / "seen").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo '2.0.1 (Claude Code)'", "is Claude Code 2.0.1; Rota needs 2.1.248 or newer"),
        ("echo Hello; echo there >&2", "does not seem to be Claude Code.*Hello.*there"),
        ("exit 1", "does not seem to be Claude Code"),
    ],
)
def test_a_program_that_will_not_do(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProgramMissing, match=f"(?s){words}"):
        RUNNER.program(program(tmp_path, text))


@pytest.mark.parametrize("path", ["/nowhere/claude", "claude", "/etc"])
def test_a_program_that_is_not_there(path: str) -> None:
    with pytest.raises(ProgramMissing, match=f"There is no Claude Code at {path}"):
        RUNNER.program(path)


def test_a_file_that_can_not_be_executed_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="There is no Claude Code"):
        RUNNER.program(program(tmp_path, "echo '9.9.9'", mode=0o644))
    (tmp_path / "claude").write_bytes(b"\x7fELF, but not really")
    (tmp_path / "claude").chmod(0o755)
    with pytest.raises(ProgramMissing, match="could not be asked for its version"):
        RUNNER.program(str(tmp_path / "claude"))


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"model": "haiku"},
        {"model": "claude-sonnet-5-5", "fallback_model": "opus", "permission_mode": "acceptEdits"},
        {"model": "sonnet[1m]", "allowed_tools": ["Bash(git log:*)", "mcp__forge__*", "Edit"], "max_turns": 1},
        {"model": "haiku", "max_budget_usd": "0.05", "setting_sources": ["project"], "append_system_prompt": "-x"},
        {"model": "claude-haiku-5-5", "permission_mode": "plan", "max_turns": None, "max_budget_usd": None},
        {"model": "haiku", "rehearsal_script": "overloaded"},
    ],
)
def test_options_that_are_well(options: dict[str, Any]) -> None:
    assert RUNNER.problems(options) == {}


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"model": ""}, "model", "Name a model"),
        ({"model": "default"}, "model", "no model's name"),
        ({"model": "--help"}, "model", "no model's name"),
        ({"model": "haiku", "permission_mode": "plan"}, "model", "asks Sonnet"),
        ({"fallback_model": "Haiku"}, "fallback_model", "the same as the model"),
        ({"fallback_model": "a b"}, "fallback_model", "no model's name"),
        ({"permission_mode": "bypassPermissions"}, "permission_mode", "lets the agent do anything"),
        ({"permission_mode": "manual"}, "permission_mode", "asks a person"),
        ({"permission_mode": "yolo"}, "permission_mode", "none of dontAsk"),
        ({"allowed_tools": "Bash"}, "allowed_tools", "Give a list"),
        ({"allowed_tools": ["Bash(git log", "Read"]}, "allowed_tools", r"Bash\(git log$"),
        ({"allowed_tools": ["--model=opus"]}, "allowed_tools", "--model=opus"),
        ({"disallowed_tools": ["Bash(a)) (b)"]}, "disallowed_tools", "Not a tool"),
        ({"disallowed_tools": [3, "Bash\nRead"]}, "disallowed_tools", "Not a tool"),
        ({"max_turns": 0}, "max_turns", "1 or more"),
        ({"max_turns": True}, "max_turns", "1 or more"),
        ({"max_turns": "5"}, "max_turns", "1 or more"),
        ({"max_budget_usd": 0}, "max_budget_usd", "above 0"),
        ({"max_budget_usd": "much"}, "max_budget_usd", "above 0"),
        ({"max_budget_usd": float("inf")}, "max_budget_usd", "above 0"),
        ({"setting_sources": ["projekt"]}, "setting_sources", "none of user, project, local"),
        ({"setting_sources": "project"}, "setting_sources", "Give a list"),
        ({"effort": "mad"}, "effort", "none of low"),
        ({"plugins": ["/opt/x"]}, "plugins", "in no allowed folder"),
        ({"mcp_servers": {"forge": {}}}, "mcp_servers", "forge: Give its program"),
        ({"json_schema": {"type": "array"}}, "json_schema", "object"),
        ({"argv": ["make"]}, "argv", "takes none"),
        ({"append_system_prompt": "x" * 200_000}, "append_system_prompt", "at most 100 kB"),
        ({"rehearsal_script": "no-such"}, "rehearsal_script", "Known are: .*overloaded"),
        ({"rehearsal_script": [3]}, "rehearsal_script", "Turn 1"),
    ],
)
def test_options_with_a_problem(options: dict[str, Any], field: str, words: str) -> None:
    problems = RUNNER.problems({"model": "haiku", **options})

    assert list(problems) == [field]
    assert re.search(words, problems[field])


# How it is started


def test_each_value_is_bound_to_its_option(tmp_path: Path) -> None:
    options = {
        "fallback_model": "sonnet",
        "permission_mode": "acceptEdits",
        "allowed_tools": ["Bash(git log:*)", "Write", "Edit", "Read", "ListAgents"],
        "disallowed_tools": ["WebFetch"],
        "max_turns": 7,
        "max_budget_usd": 1e-5,
        "append_system_prompt": "--dangerously-skip-permissions",
        "setting_sources": ["project", "local"],
    }
    spec = make_spec(tmp_path, options=options)

    assert list(RUNNER.launch(spec).argv[1:]) == [
        "-p",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        f"--session-id={spec.agent_session_id}",
        "--model=haiku",
        "--fallback-model=sonnet",
        "--permission-mode=acceptEdits",
        "--allowedTools=Bash(git log:*),Edit(./**),Read(./**),ListAgents",
        "--disallowedTools=ScheduleWakeup,SendMessage,EnterWorktree,ExitWorktree,WebFetch",
        "--max-turns=7",
        "--max-budget-usd=0.00001",
        "--append-system-prompt=--dangerously-skip-permissions",
        "--setting-sources=project,local",
        "--strict-mcp-config",
    ]


def test_nothing_of_ours_is_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    given = {"CLAUDE_CODE_MAX_RETRIES": "2", "CLAUDE_CONFIG_DIR": "/elsewhere", "TEAM": "a"}
    environment = RUNNER.launch(make_spec(tmp_path, environment=given)).environment

    assert "secret" not in environment.values()
    assert environment["CLAUDE_CONFIG_DIR"] == f"{tmp_path}/home/.claude"
    assert environment["TEAM"] == "a"
    assert {name: environment[name] for name in QUIET} == {**QUIET, "CLAUDE_CODE_MAX_RETRIES": "2"}


def test_no_fallback_is_picked_unless_one_is_named(tmp_path: Path) -> None:
    named = make_spec(tmp_path, options={"fallback_model": "sonnet"})

    assert "CLAUDE_CODE_NO_MODEL_FALLBACK" in RUNNER.launch(make_spec(tmp_path)).environment
    assert "CLAUDE_CODE_NO_MODEL_FALLBACK" not in RUNNER.launch(named).environment


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"options": {"max_turns": 0}}, "max_turns"),
        ({"prompt": " \n"}, "prompt"),
        ({"agent_session_id": "--help"}, "agent_session_id"),
        ({"conversation": Conversation(agent_session_id="../x", file=Path(__file__))}, "conversation"),
        ({"conversation": Conversation(agent_session_id=str(UUID(int=1)), file=Path("/nowhere"))}, "conversation"),
        ({"environment": {"LD_PRELOAD": "/x.so"}}, "environment"),
    ],
)
def test_what_can_not_be_launched(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionsInvalid) as refused:
        RUNNER.launch(make_spec(tmp_path, **changes))

    assert list(refused.value.problems) == [field]


@pytest.mark.parametrize("name", RECORDED)
def test_the_shim_knows_the_result_line(tmp_path: Path, name: str) -> None:
    knows = ResultLine(kind=RUNNER.launch(make_spec(tmp_path)).result_type)
    results = [line for line in (STREAMS / f"{name}.jsonl").read_bytes().splitlines() if knows.is_result(line)]

    assert len(results) == (name != "hangs")


# The real program, against a scripted model


def test_the_real_program_does_what_the_recordings_show(tmp_path: Path) -> None:
    session = converse(tmp_path, "writes-a-file", options={"allowed_tools": ["Write"]})

    assert (session.result.outcome, session.result.reason) == ("succeeded", "ok")
    assert (tmp_path / "workspace" / "notes.md").read_text() == "Written in a rehearsal.\n"
    assert session.tally.agent_session_id == session.spec.agent_session_id
    assert not [event for event in session.events if event.kind == "output"]


def test_a_prompt_reaches_the_model_as_it_is_and_whole(tmp_path: Path) -> None:
    """It is no command and no option, no file is read for it, and it may be longer than an argument can be."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret is 4711")
    prompt = f"/cost --help @{secret} @../secret.txt !date\n#memory\n" + "No news is good news. " * 10_000
    session = converse(tmp_path, DONE, prompt=prompt)

    assert session.result.reason == "ok"
    assert session.requests[0].prompt == prompt
    assert "4711" not in json.dumps(session.requests[0].body)
    assert not [arg for arg in session.launch.argv if "cost" in arg]


def test_file_tools_end_at_the_workspace(tmp_path: Path) -> None:
    inside, outside, secret = tmp_path / "workspace" / "in.md", tmp_path / "out.md", tmp_path / "secret.txt"
    secret.write_text("the secret is 4711")
    tools = use(
        ("Write", {"file_path": str(inside), "content": "x"}),
        ("Write", {"file_path": str(outside), "content": "x"}),
        ("Read", {"file_path": str(secret)}),
    )
    session = converse(tmp_path, [tools, *DONE], options={"allowed_tools": ["Read", "Write"]})

    assert inside.exists()
    assert not outside.exists()
    assert "4711" not in json.dumps(session.requests[1].body)
    assert session.result.reason == "denied"
    assert session.result.denied == (f"Write: {outside}", f"Read: {secret}")


@pytest.mark.parametrize("trusted", [False, True])
def test_the_settings_of_a_repository_count_only_when_it_is_trusted(tmp_path: Path, trusted: bool) -> None:
    hook = {"type": "command", "command": f"touch {tmp_path}/hooked"}
    settings = tmp_path / "workspace" / ".claude" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"hooks": {"SessionStart": [{"hooks": [hook]}]}}))
    (tmp_path / "workspace" / "CLAUDE.md").write_text("Always answer in verse.")
    session = converse(tmp_path, DONE, options={"setting_sources": ["project"] if trusted else []})

    assert session.result.reason == "ok"
    assert (tmp_path / "hooked").exists() == trusted
    assert ("Always answer in verse." in json.dumps(session.requests[0].body)) == trusted


def test_a_session_keeps_to_its_folder(tmp_path: Path) -> None:
    session = converse(tmp_path, [use(("Bash", {"command": "env"})), *DONE], options={"allowed_tools": ["Bash"]})
    init = json.loads(session.lines[0].data)
    seen = next(event.text for event in session.events if event.kind == "tool_result")

    assert init["messaging_socket_path"].startswith(f"{tmp_path}/home/")
    assert f"HOME={tmp_path}/home\n" in seen
    assert not {"CronCreate", "SendMessage", "EnterWorktree"} & set(init["tools"])
    assert "memory_paths" not in init


def test_a_conversation_is_gone_on_with_in_another_home_and_workspace(tmp_path: Path) -> None:
    first = converse(tmp_path / "1", [say("I am Ada.")], prompt="Who are you?")
    second = go_on(first.spec, tmp_path / "ä long way" / ("off" * 80) / "2", "And your last name?", "Lovelace.")
    third = go_on(second.spec, tmp_path / "3", "Your birthday?", "10 December.")

    asked = json.dumps(third.requests[0].body["messages"])
    words = ["Who are you?", "I am Ada.", "And your last name?", "Lovelace.", "Your birthday?"]
    assert sorted(words, key=asked.index) == words
    assert third.requests[0].prompt == "Your birthday?"
    assert third.tally.agent_session_id == third.spec.agent_session_id
    assert "Speak as 3." in json.dumps(third.requests[0].body["system"])
    assert third.result.cost_usd < 1.5 * first.result.cost_usd
    assert json.loads(third.lines[-1].data)["total_cost_usd"] == pytest.approx(third.result.cost_usd)


def go_on(earlier: Any, folder: Path, prompt: str, answer: str) -> Any:
    conversation = RUNNER.conversation(earlier)
    assert conversation is not None
    before = conversation.file.read_bytes()
    options = {"append_system_prompt": f"Speak as {folder.name}."}
    session = converse(folder, [say(answer)], prompt=prompt, conversation=conversation, options=options)
    assert session.result.result == answer
    assert conversation.file.read_bytes() == before
    return session


def test_a_conversation_that_was_not_kept_is_none(tmp_path: Path) -> None:
    assert RUNNER.conversation(make_spec(tmp_path)) is None


def test_a_conversation_is_no_link_to_somewhere_else(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    projects = spec.home / ".claude" / "projects"
    secret = tmp_path / "secrets" / f"{spec.agent_session_id}.jsonl"
    for folder in (projects / "a", secret.parent):
        folder.mkdir(parents=True)
    secret.write_text("the secret is 4711")
    (projects / "a" / secret.name).symlink_to(secret)
    (projects / "b").symlink_to(secret.parent)
    assert RUNNER.conversation(spec) is None

    (projects / "c").mkdir()
    (projects / "c" / secret.name).write_text("{}\n")
    assert RUNNER.conversation(spec) == Conversation(
        agent_session_id=spec.agent_session_id, file=projects / "c" / secret.name
    )


def test_a_program_that_can_not_start_says_why(tmp_path: Path) -> None:
    """Such as one that is told to go on with what is no conversation."""
    file = tmp_path / "empty.jsonl"
    file.write_text("{}\n")
    lost = Conversation(agent_session_id="0b3d560d-d9c9-42be-8418-ddec0f30b66b", file=file)
    session = run(make_spec(tmp_path, conversation=lost))

    assert (session.result.outcome, session.result.reason) == ("failed", "agent_error")
    assert "No conversation found" in session.result.message


def test_it_does_not_import_the_sdk() -> None:
    """That would take a second and 68 MB of a worker."""
    code = (
        "import sys, runners.claude; runners.claude.ClaudeRunner().program(); print('claude_agent_sdk' in sys.modules)"
    )
    python = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert python.stdout == "False\n"
