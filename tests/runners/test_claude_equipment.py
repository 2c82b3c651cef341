"""What a schedule gives Claude Code besides: plugins, MCP servers, subagents, a schema. With the real program."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from runners import sandbox, supervision
from runners.base import OptionsInvalid
from runners.claude import ClaudeRunner
from runners.scripted_model import ScriptedModel
from tests.runners import mcp_server
from tests.runners.claude_sessions import QUICK, Session, converse, make_spec, run, say, use
from tests.runners.held import Held, limits_of

_obstacle = sandbox.available()
needs_sandbox = pytest.mark.skipif(bool(_obstacle), reason=_obstacle)

DONE = [say("Done.")]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def give(**structured: Any) -> list[dict[str, Any]]:
    return use(("StructuredOutput", structured))


def first_frame(session: Session) -> dict[str, Any]:
    """What the program says of itself at its start."""
    frames = (json.loads(line.data) for line in session.lines if line.stream == "out")
    found: dict[str, Any] = next(frame for frame in frames if frame.get("subtype") == "init")
    return found


def sky(folder: Path, **more: Any) -> dict[str, Any]:
    """An MCP server of ours; FOLDER/seen tells with what it was started."""
    return {"command": sys.executable, "args": [mcp_server.__file__, str(folder / "seen")], **more}


# A schema


def test_a_result_that_keeps_to_the_schema(tmp_path: Path) -> None:
    session = converse(tmp_path, [give(n=3)], options={"json_schema": SCHEMA})

    tools = {tool["name"]: tool for tool in session.requests[0].body["tools"]}
    assert tools["StructuredOutput"]["input_schema"] == SCHEMA
    assert (session.result.outcome, session.result.structured) == ("succeeded", {"n": 3})
    assert json.loads(session.result.result) == {"n": 3}


def test_a_result_that_keeps_to_it_at_last(tmp_path: Path) -> None:
    session = converse(tmp_path, [give(n="three"), give(n=3)], options={"json_schema": SCHEMA})

    assert (session.result.reason, session.result.structured) == ("ok", {"n": 3})


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([say("Just words.", times=9)], "It gave no structured output."),  # the program calls it a success
        ([{"content": give(n="three"), "times": 9}], "must be integer"),
    ],
)
def test_a_result_that_does_not_is_no_success(tmp_path: Path, script: object, words: str) -> None:
    session = converse(tmp_path, script, options={"json_schema": SCHEMA})

    assert (session.result.outcome, session.result.reason) == ("failed", "invalid_output")
    assert words in session.result.message
    assert session.result.structured is None


def test_without_a_schema_nothing_is_structured(tmp_path: Path) -> None:
    session = converse(tmp_path, DONE)

    assert session.result.structured is None
    assert "StructuredOutput" not in first_frame(session)["tools"]


@pytest.mark.parametrize("turns", [None, 1])
def test_a_rehearsal_makes_up_a_result(tmp_path: Path, turns: int | None) -> None:
    session = run(make_spec(tmp_path, rehearse=True, options={"json_schema": SCHEMA, "max_turns": turns}))

    assert (session.result.outcome, session.result.structured) == ("succeeded", {"n": 0})


# MCP servers


def test_a_server_is_started_and_its_tool_returns(tmp_path: Path) -> None:
    server = sky(tmp_path, env={"TOKEN": "<${SECRET}>"})
    session = converse(
        tmp_path,
        [use(("mcp__sky__weather", {"city": "Paris"})), say("Done.")],
        options={"mcp_servers": {"sky": server}, "allowed_tools": ["mcp__sky__*"]},
        environment={"SECRET": "s3cr3t-5e1f"},
    )

    assert (session.result.outcome, session.result.message) == ("succeeded", "")
    assert "Sunny in Paris, says <s3cr3t-5e1f>" in [event.text for event in session.events]
    assert first_frame(session)["mcp_servers"] == [{"name": "sky", "status": "connected", "source": "dynamic"}]


def test_no_value_of_a_secret_is_written_or_in_a_command_line(tmp_path: Path) -> None:
    options = {"mcp_servers": {"sky": sky(tmp_path, env={"TOKEN": "${SECRET}"})}}
    launch = ClaudeRunner().launch(make_spec(tmp_path, options=options, environment={"SECRET": "s3cr3t-5e1f"}))

    assert not [word for word in launch.argv if "s3cr3t" in word]
    assert not [name for name, content in launch.files.items() if b"s3cr3t" in content]
    assert b"${SECRET}" in launch.files["mcp-servers.json"]


def test_its_tools_are_denied_unless_they_are_allowed(tmp_path: Path) -> None:
    script = [use(("mcp__sky__weather", {"city": "Paris"})), say("Done.")]
    session = converse(tmp_path, script, options={"mcp_servers": {"sky": sky(tmp_path)}})

    assert session.result.reason == "denied"


def test_a_server_that_does_not_start_fails_the_session(tmp_path: Path) -> None:
    servers = {"gone": {"command": "/nowhere/server"}, "web": {"type": "http", "url": "http://127.0.0.1:9/mcp"}}
    session = converse(tmp_path, DONE, options={"mcp_servers": {**servers, "sky": sky(tmp_path)}})

    assert (session.result.outcome, session.result.reason) == ("failed", "unequipped")
    assert "The MCP server gone did not start (failed)." in session.result.message
    assert "The MCP server web did not start (failed)." in session.result.message
    assert "sky" not in session.result.message


def test_a_variable_that_is_not_set_is_told_before_anything_starts(tmp_path: Path) -> None:
    options = {"mcp_servers": {"sky": sky(tmp_path, env={"TOKEN": "${SECRET}", "PLACE": "${HOME}"})}}
    with pytest.raises(OptionsInvalid, match="mcp_servers: SECRET: is not in the session's environment"):
        ClaudeRunner().launch(make_spec(tmp_path, options=options))


@pytest.mark.parametrize("sources", [[], ["project"]])
def test_servers_of_the_repository_are_never_loaded(tmp_path: Path, sources: list[str]) -> None:
    """Not even of one that is trusted: those that the schedule names are all."""
    workspace = tmp_path / "workspace"
    (workspace / ".claude").mkdir(parents=True)
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"theirs": sky(tmp_path / "workspace")}}))
    (workspace / ".claude" / "settings.json").write_text(json.dumps({"enableAllProjectMcpServers": True}))
    options = {"setting_sources": sources, "mcp_servers": {"ours": sky(tmp_path)}}
    session = converse(tmp_path, DONE, options=options)

    assert [server["name"] for server in first_frame(session)["mcp_servers"]] == ["ours"]
    assert (tmp_path / "seen").exists()
    assert not (workspace / "seen").exists()


# Plugins


def make_plugin(folder: Path, hooked: Path) -> None:
    """With a command, a skill, an MCP server, and a hook that leaves a file."""
    hook = {"type": "command", "command": f"touch {hooked}"}
    files = {
        ".claude-plugin/plugin.json": json.dumps({"name": "tinker", "version": "1.0.0", "description": "Tinkers"}),
        "commands/hello.md": "---\ndescription: says hello\n---\nSay hello.\n",
        "skills/greet/SKILL.md": "---\nname: greet\ndescription: greets people\n---\nGreet.\n",
        "hooks/hooks.json": json.dumps({"hooks": {"SessionStart": [{"hooks": [hook]}]}}),
        ".mcp.json": json.dumps({"mcpServers": {"theirs": {"command": "touch", "args": [f"{hooked}-server"]}}}),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def named_tinker(session: Session) -> set[str]:
    frame = first_frame(session)
    return {name for key in ("slash_commands", "skills") for name in frame[key] if "tinker" in name}


def test_a_plugin_of_a_trusted_repository_is_loaded_where_it_is_named(tmp_path: Path) -> None:
    make_plugin(tmp_path / "workspace" / "tools" / "tinker", tmp_path / "hooked")
    options = {"plugins": ["tools/tinker"], "setting_sources": ["project"]}
    session = converse(tmp_path, DONE, options=options)

    assert (session.result.outcome, session.result.message) == ("succeeded", "")
    assert named_tinker(session) == {"tinker:hello", "tinker:greet"}
    assert (tmp_path / "hooked").exists()
    assert not (tmp_path / "hooked-server").exists()


def test_a_plugin_of_the_machine_is_loaded_from_an_allowed_folder(tmp_path: Path) -> None:
    make_plugin(tmp_path / "plugins" / "tinker", tmp_path / "hooked")
    options = {"plugins": [f"{tmp_path}/plugins/tinker"], "plugin_folders": [f"{tmp_path}/plugins"]}
    session = converse(tmp_path, DONE, options=options)

    assert named_tinker(session) == {"tinker:hello", "tinker:greet"}
    assert (tmp_path / "hooked").exists()
    assert f"{tmp_path}/plugins/tinker" in session.launch.reads


@pytest.mark.parametrize("sources", [[], ["project"]])
def test_a_plugin_that_is_not_named_is_not_loaded(tmp_path: Path, sources: list[str]) -> None:
    make_plugin(tmp_path / "workspace" / "tools" / "tinker", tmp_path / "hooked")
    session = converse(tmp_path, DONE, options={"setting_sources": sources})

    assert named_tinker(session) == set()
    assert not (tmp_path / "hooked").exists()


def test_a_plugin_of_a_repository_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    make_plugin(tmp_path / "workspace" / "tools" / "tinker", tmp_path / "hooked")
    with pytest.raises(OptionsInvalid, match="plugins: tools/tinker is code of the repository: trust it first"):
        ClaudeRunner().launch(make_spec(tmp_path, options={"plugins": ["tools/tinker"]}))


# In a sandbox


@needs_sandbox
def test_a_server_and_a_plugin_work_in_a_sandbox(tmp_path: Path) -> None:
    """What the launch says that it reads is there; the rest of the machine is not."""
    make_plugin(tmp_path / "plugins" / "tinker", tmp_path / "workspace" / "hooked")
    server = tmp_path / "plugins" / "server"
    code = Path(mcp_server.__file__).read_text().replace('"""', f'#!{sys.executable}\n"""', 1)
    server.write_text(code)
    server.chmod(0o755)
    with ScriptedModel([use(("mcp__sky__weather", {"city": "Paris"})), say("Done.")]) as model:
        spec = make_spec(
            tmp_path,
            environment={**QUICK, "ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"},
            options={
                "mcp_servers": {"sky": {"command": str(server), "args": ["seen"], "env": {"TOKEN": "${HOME}"}}},
                "allowed_tools": ["mcp__sky"],
                "plugins": [f"{tmp_path}/plugins/tinker"],
                "plugin_folders": [f"{tmp_path}/plugins"],
            },
        )
        launch = sandbox.wrap(ClaudeRunner().launch(spec), spec=spec, sandbox=sandbox.Sandbox(network="host"))
        shim = supervision.start(spec.folder, launch, cwd=spec.workspace, limits=limits_of())
        held = Held(folder=spec.folder, shim=shim)
        session = Session(
            runner=ClaudeRunner(), spec=spec, launch=launch, ending=held.end(within=60), lines=held.read()
        )

    assert (session.result.outcome, session.result.message) == ("succeeded", "")
    assert f"Sunny in Paris, says {spec.home}" in [event.text for event in session.events]
    assert named_tinker(session) == {"tinker:hello", "tinker:greet"}
    assert (spec.workspace / "hooked").exists()


# Subagents and effort


def test_subagents_and_effort_reach_the_program(tmp_path: Path) -> None:
    agents = {"reviewer": {"description": "Reviews code", "prompt": "You review.", "tools": ["Read"], "model": "haiku"}}
    options = {"agents": agents, "effort": "low", "model": "sonnet"}
    session = converse(tmp_path, DONE, options=options)

    assert "reviewer" in first_frame(session)["agents"]
    assert session.requests[0].body["output_config"]["effort"] == "low"


@pytest.mark.parametrize(
    ("agents", "words"),
    [
        (["reviewer"], "Give a JSON object"),
        ({"a b": {}}, "is no subagent"),
        ({"reviewer": "Reviews code"}, "is no subagent"),
        ({"reviewer": {"description": "Reviews"}}, "a description and a prompt"),
        ({"reviewer": {"description": "R", "prompt": "P", "permissionMode": "bypassPermissions"}}, "permissionMode"),
        ({"reviewer": {"description": "R", "prompt": "P", "hooks": {}}}, "hooks: is nothing"),
        ({"reviewer": {"description": "R", "prompt": "P", "tools": ["Bash(git log"]}}, "Not a tool"),
        ({"reviewer": {"description": "R", "prompt": "P", "tools": "Read"}}, "Not a tool"),
        ({"reviewer": {"description": "R", "prompt": "P", "model": "--x"}}, "no model's name"),
        ({"reviewer": {"description": "R", "prompt": "x" * 100_000}}, "longer than 100 kB"),
    ],
)
def test_subagents_that_will_not_do(agents: object, words: str) -> None:
    problems = ClaudeRunner().problems({"model": "haiku", "agents": agents})

    assert list(problems) == ["agents"]
    assert words in problems["agents"]
