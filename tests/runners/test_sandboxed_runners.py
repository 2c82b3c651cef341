"""Every kind of session in a sandbox: scripts, functions, agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners import tallying
from runners.base import OptionsInvalid, SessionSpec, Tally
from runners.claude import ClaudeRunner
from runners.codex import CodexRunner
from runners.function import FunctionRunner
from runners.sandbox import Sandbox
from runners.script import ScriptRunner
from tests.runners import claude_sessions, codex_sessions
from tests.runners.held import make_spec
from tests.runners.repositories import Source
from tests.runners.sandboxed import CANARY, NO_NETWORK, begin, needs_sandbox


@needs_sandbox
class TestRunners:
    def see_through(self, runner: Any, spec: SessionSpec, within: Sandbox, **limits: float | None) -> Any:
        held = begin(spec, runner.launch(spec), within, **limits)
        ending = held.end(within=50)
        return claude_sessions.Session(
            runner=runner, spec=spec, launch=runner.launch(spec), lines=held.read(), ending=ending
        )

    def test_a_script_writes_its_result(self, tmp_path: Path) -> None:
        program = 'echo "# Fine" > "$ROTA_RESULT_FILE"; cd "$ROTA_WORKSPACE" && touch made'
        spec = make_spec(tmp_path, options={"argv": ["sh", "-c", program]})
        runner = ScriptRunner()
        ended = self.see_through(runner, spec, NO_NETWORK)
        result = runner.judge(ended.ending, ended.tally, spec)
        assert (result.outcome, result.result) == ("succeeded", "# Fine")
        assert (tmp_path / "workspace" / "made").exists()

    def test_a_script_elsewhere_on_the_machine_is_shown_alone(self, tmp_path: Path) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "secret").write_text(CANARY)
        (tools / "report").write_text(f"#!/bin/sh\nls {tools}; touch {tools}/report || echo kept\n")
        (tools / "report").chmod(0o755)
        spec = make_spec(tmp_path, options={"argv": [str(tools / "report")]})
        ended = self.see_through(ScriptRunner(), spec, NO_NETWORK)
        assert [line.data for line in ended.lines if line.stream == "out"] == [b"report", b"kept"]

    def test_a_function_of_the_operator_s_runs_and_sees_its_own_code_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plugins = tmp_path / "plugins"
        plugins.mkdir()
        (plugins / "secret").write_text(CANARY)
        (plugins / "operators_sandboxed.py").write_text(
            "from pathlib import Path\n"
            "def it(context):\n    return ' '.join(p.name for p in Path(__file__).parent.iterdir())\n"
        )
        monkeypatch.syspath_prepend(plugins)
        spec = make_spec(tmp_path, options={"function": "it", "function_path": "operators_sandboxed.it"})
        runner = FunctionRunner()
        held = begin(spec, runner.launch(spec), NO_NETWORK)
        assert held.end().exit_code == 0
        (told,) = [event.text for line in held.read() for event in runner.read(line)]
        assert set(told.split()) - {"__pycache__"} == {"operators_sandboxed.py"}

    def test_what_a_function_needs_is_found_without_running_it(self, tmp_path: Path) -> None:
        spec = make_spec(tmp_path, options={"function": "it", "function_path": "no_such_module.it"})
        assert FunctionRunner().launch(spec).reads == ()
        with pytest.raises(OptionsInvalid):
            FunctionRunner().launch(make_spec(tmp_path, options={}))

    @pytest.mark.skipif(not codex_sessions.program(), reason=codex_sessions.NO_CODEX)
    def test_codex_rehearses_with_its_own_sandbox_inside(self, tmp_path: Path) -> None:
        spec = make_spec(
            tmp_path,
            options={"model": "gpt-5.5"},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            program=codex_sessions.program(),
            rehearse=True,
        )
        runner = CodexRunner()
        held = begin(spec, runner.launch(spec), NO_NETWORK, timeout=40)
        ending, tally = held.end(within=50), Tally()
        for line in held.read():
            for event in runner.read(line):
                tallying.add(tally, event)
        result = runner.judge(ending, tally, spec)
        assert (result.outcome, result.reason) == ("succeeded", "ok"), result.message
        assert list(spec.workspace.iterdir()), "it wrote no file"

    @pytest.mark.skipif(not codex_sessions.program(), reason=codex_sessions.NO_CODEX)
    @pytest.mark.parametrize("network", ["none", "host"])
    def test_codex_s_own_sandbox_holds_inside_of_ours(self, tmp_path: Path, network: Any) -> None:
        """It keeps more than ours does: the key, what the verdict is read from, and the checkout's git directory."""
        look = [
            "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -o -e ^MINE=.. -e ^OPENAI_API_KEY= | sort -u",
            'touch "$HOME/.codex/forged" "$HOME/forged" .git/forged; find .git "$HOME" -name forged',
            "touch made && echo it is made",
        ]
        # One command: of several that are asked for at once, Codex does not tell of each.
        turns = [[{"type": "tool_use", "name": "Bash", "input": {"command": "\n".join(look)}}]]
        source = Source(tmp_path / "workspace")
        spec = make_spec(
            tmp_path,
            options={"model": "gpt-5.5", "rehearsal_script": turns},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            program=codex_sessions.program(),
            environment={"MINE": "given"},
            rehearse=True,
        )
        runner = CodexRunner()
        held = begin(spec, runner.launch(spec), Sandbox(network=network), timeout=40)
        ending, tally, told = held.end(within=50), Tally(), ""
        for event in (event for line in held.read() for event in runner.read(line)):
            tallying.add(tally, event)
            told += f"{event.kind}: {event.text}\n"
        result = runner.judge(ending, tally, spec)
        assert (result.outcome, result.reason) == ("succeeded", "ok"), result.message
        assert "it is made" in told
        assert "MINE=gi\n" in told
        assert "OPENAI_API_KEY=\n" not in told
        assert told.count("Read-only file system") == 3
        assert (spec.workspace / "made").exists()
        assert not list(source.path.rglob("forged"))
        assert not list(spec.home.rglob("forged"))

    @pytest.mark.parametrize("network", ["none", "allow_list", "host"])
    def test_claude_rehearses(self, tmp_path: Path, network: Any) -> None:
        tmp_path.joinpath("session").mkdir(mode=0o700)
        spec = make_spec(
            tmp_path,
            options={"model": "haiku", "allowed_tools": ["Write", "Bash(cat:*)"], "rehearsal_script": "writes-a-file"},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            rehearse=True,
        )
        hosts = ["api.example.com"] if network == "allow_list" else []
        ended = self.see_through(ClaudeRunner(), spec, Sandbox(network=network, allowed_hosts=hosts), timeout=40)
        assert (ended.result.outcome, ended.result.reason) == ("succeeded", "ok"), ended.lines
        assert any(spec.workspace.iterdir()), "it wrote no file"
        assert ClaudeRunner().conversation(spec), "its conversation is not kept"
