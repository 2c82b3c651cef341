"""The real Codex, against a scripted model: what it does, may do, and leaves."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from runners import rehearsals
from runners.base import Runner
from runners.codex import MINIMUM_VERSION, CodexRunner
from tests.runners import codex_sessions
from tests.runners.claude_sessions import say, use
from tests.runners.codex_sessions import (
    NEWER,
    NO_CODEX,
    WITHOUT_NAMESPACES,
    converse,
    run,
)

RUNNER: Runner = CodexRunner()
DONE = [say("Done.")]
BASH = "Bash"

needs_codex = pytest.mark.skipif(not codex_sessions.program(), reason=NO_CODEX)


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
