"""Sessions by Claude Code, through its documented command line: `claude -p --output-format stream-json --verbose`.

The prompt goes in on standard input, as one message marked `client_composed`. Given as an argument or as plain text,
Claude Code would take `/cost` for a command that it answers by itself, and would read the file of every `@/path` in it,
wherever that is and without asking: a stranger's issue must not do that.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final

from runners import agent_launch, claude_options, claude_stream, mcp_servers, plugins, rehearsals, verdict
from runners.agent_programs import NOWHERE, Product
from runners.base import (
    AnswerRule,
    Conversation,
    Ending,
    Event,
    Launch,
    Line,
    Option,
    OptionsInvalid,
    Program,
    SessionResult,
    SessionSpec,
    Tally,
)
from runners.rehearsals import exercise, made_up

MINIMUM_VERSION: Final = (2, 1, 248)  # the first one that honours `client_composed`
TRIED_VERSION: Final = (2, 1, 327)
CONFIG_FOLDER: Final = ".claude"
PROMPT_FILE: Final = "prompt.jsonl"
STRUCTURED: Final = "StructuredOutput"  # the tool by which a model gives a result that keeps to a schema
MCP_FILE: Final = "mcp-servers.json"

# Of no use where nobody watches and the workspace is gone afterwards, or reaching out of the session.
UNATTENDED: Final = ("ScheduleWakeup", "ListAgents", "SendMessage", "EnterWorktree", "ExitWorktree")
# The bare name of a file tool would allow it everywhere on the machine: what is meant is the workspace.
IN_WORKSPACE: Final[Mapping[str, str]] = {
    "Read": "Read(./**)",
    "Glob": "Read(./**)",
    "Grep": "Read(./**)",
    "Edit": "Edit(./**)",
    "Write": "Edit(./**)",
    "NotebookEdit": "Edit(./**)",
}

# A schedule's own variables come after these.
QUIET: Final[Mapping[str, str]] = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # HOME goes away with the session
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # they die at the end of the turn while success is reported
    "CLAUDE_CODE_DISABLE_CRON": "1",  # that is what Rota is for
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    "CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP": "1",  # else an older model's name silently gets a newer, dearer model
    "CLAUDE_CODE_STARTUP_FAILURE_RESULTS": "1",  # a result line for what would be told on standard error alone
    "API_TIMEOUT_MS": "240000",  # until an answer begins: so a lost question is asked again before the silence limit
    "CLAUDE_CODE_MAX_RETRIES": "6",  # about 35 s; its own 10 would spend 3 minutes on a wrong key
}

PRODUCT: Final = Product(
    name="Claude Code",
    minimum=MINIMUM_VERSION,
    tried=TRIED_VERSION,
    version=re.compile(r"(\d+)\.(\d+)\.(\d+)"),
    environment={"CLAUDE_CONFIG_DIR": NOWHERE, **QUIET},
)

# Of the model's own answers: a subagent's has a parent, and what the program made up itself is marked.
ANSWERS: Final = AnswerRule(
    type="assistant",
    id="message.id",
    without=("parent_tool_use_id", "error"),
    but={"message.model": claude_stream.SYNTHETIC},
)


class ClaudeRunner:
    name: ClassVar[str] = "claude"
    options: ClassVar[Mapping[str, Option]] = claude_options.OPTIONS
    is_agent: ClassVar[bool] = True
    provider: ClassVar[str] = "anthropic"
    credentials: ClassVar[tuple[str, ...]] = (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_AUTH_TOKEN",
    )

    def problems(self, options: Mapping[str, Any]) -> dict[str, str]:
        return claude_options.problems(options)

    def program(self, path: str = "") -> Program:
        """The given program, else the one that the `claude-agent-sdk` wheel carries, else the one on PATH."""
        file = Path(path) if path else _bundled() or Path(shutil.which("claude") or "")
        where = f"at {path}" if path else "in the claude-agent-sdk package or on PATH"
        missing = f"There is no Claude Code {where}. Install requirements.txt, or give its full path."
        return PRODUCT.check(file, missing=missing)

    def launch(self, spec: SessionSpec) -> Launch:
        problems = self.problems(spec.options) | _spec_problems(spec)
        if problems:
            raise OptionsInvalid(problems)
        program = self.program(spec.program).path
        added = _plugins(spec)
        argv = [program, *_arguments(spec), *(f"--plugin-dir={folder}" for folder in added)]
        files = {PROMPT_FILE: _message(spec.prompt)}
        if servers := spec.options.get("mcp_servers"):
            files[MCP_FILE] = json.dumps({"mcpServers": servers}).encode()
        if spec.conversation:
            files[str(_conversation_path(spec))] = _without_costs(spec.conversation.file)
        extra = {**QUIET, **_fallback_variables(spec.options), **spec.environment, **_own_variables(spec)}
        return agent_launch.launch(
            spec,
            argv=argv,
            extra=extra,
            files=files,
            script=_script,
            result_type="result",
            answers=ANSWERS,
            stdin_file=PROMPT_FILE,
            reads=(program, *map(str, added), *mcp_servers.absolute_commands(spec.options.get("mcp_servers"))),
        )

    def read(self, line: Line) -> list[Event]:
        return claude_stream.read(line)

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        return verdict.judge(ending, tally, spec.options, rehearse=spec.rehearse)

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        """What Claude Code kept of the conversation, in a folder that it names after the workspace.

        The agent may have put anything there: a link leads nowhere, and what fills memory is left.
        """
        projects = (spec.home / CONFIG_FOLDER / "projects").resolve()
        for file in sorted(projects.glob(f"*/{spec.agent_session_id}.jsonl")):
            if file.resolve() == file and file.is_file() and 0 < file.stat().st_size <= agent_launch.CONVERSATION_BYTES:
                return Conversation(agent_session_id=spec.agent_session_id, file=file)
        return None


def _bundled() -> Path | None:
    """The program in the wheel, without importing the package: that takes a second and 68 MB."""
    package = importlib.util.find_spec("claude_agent_sdk")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "_bundled" / "claude"
        if file.is_file():
            return file
    return None


def _arguments(spec: SessionSpec) -> Iterator[str]:
    """Each value is bound to its option by `=`: none can become an option of its own, nor be swallowed by a list."""
    options = spec.options
    yield from ("-p", "--verbose", "--input-format=stream-json", "--output-format=stream-json")
    yield f"--session-id={spec.agent_session_id}"
    if spec.conversation:
        yield f"--resume={spec.conversation.agent_session_id}"
        yield "--fork-session"  # under the id that Rota chose; the earlier file stays as it was
        yield "--system-prompt-snapshot=off"  # else the earlier session's system prompt is used, not the schedule's
    yield f"--model={options['model']}"
    if options.get("fallback_model"):
        yield f"--fallback-model={options['fallback_model']}"
    yield f"--permission-mode={options.get('permission_mode') or 'dontAsk'}"
    allowed = list(options.get("allowed_tools") or ())
    if allowed:
        yield f"--allowedTools={','.join(_in_workspace(allowed))}"
    disallowed = [tool for tool in UNATTENDED if tool not in allowed]
    yield f"--disallowedTools={','.join([*disallowed, *(options.get('disallowed_tools') or ())])}"
    if options.get("max_turns") is not None:
        yield f"--max-turns={options['max_turns']}"
    if options.get("max_budget_usd") is not None:
        yield f"--max-budget-usd={Decimal(str(options['max_budget_usd'])):f}"
    if options.get("append_system_prompt"):
        yield f"--append-system-prompt={options['append_system_prompt']}"
    if options.get("effort"):
        yield f"--effort={options['effort']}"
    if options.get("agents"):
        yield f"--agents={json.dumps(options['agents'])}"
    if options.get("json_schema"):
        yield f"--json-schema={json.dumps(options['json_schema'])}"
    yield f"--setting-sources={','.join(options.get('setting_sources') or ())}"
    if options.get("mcp_servers"):
        yield f"--mcp-config={spec.home / MCP_FILE}"
    yield "--strict-mcp-config"


def _plugins(spec: SessionSpec) -> list[Path]:
    named, folders = spec.options.get("plugins") or (), spec.options.get("plugin_folders") or ()
    return plugins.found(named, workspace=spec.workspace, folders=folders)


def _in_workspace(rules: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(IN_WORKSPACE.get(rule, rule) for rule in rules))


def _message(prompt: str) -> bytes:
    message = {"type": "user", "client_composed": True, "message": {"role": "user", "content": prompt}}
    return json.dumps(message).encode() + b"\n"


def _own_variables(spec: SessionSpec) -> dict[str, str]:
    """Not for a schedule to change: what keeps the session's files and sockets with the session."""
    return {
        "CLAUDE_CONFIG_DIR": str(spec.home / CONFIG_FOLDER),
        "CLAUDE_CODE_TMPDIR": str(spec.home / "tmp"),
        "XDG_RUNTIME_DIR": str(spec.home / "tmp"),
    }


def _fallback_variables(options: Mapping[str, Any]) -> dict[str, str]:
    """Where no fallback is named, the program must not pick one."""
    return {} if options.get("fallback_model") else {"CLAUDE_CODE_NO_MODEL_FALLBACK": "1"}


def _conversation_path(spec: SessionSpec) -> Path:
    """Where, below HOME, Claude Code looks for a conversation that it is to go on with.

    It names the folder after its working directory and cuts that name at 200 characters; it also finds the conversation
    in any other folder, so that what it adds to a name that was cut does not matter.
    """
    assert spec.conversation
    units = str(spec.workspace.resolve()).encode("utf-16-le")  # it goes by UTF-16 units
    characters = (units[at : at + 2].decode("utf-16-le", "replace") for at in range(0, len(units), 2))
    folder = "".join(c if re.fullmatch(r"[A-Za-z0-9]", c) else "-" for c in characters)[:200]
    return Path(CONFIG_FOLDER, "projects", folder, f"{spec.conversation.agent_session_id}.jsonl")


def _without_costs(file: Path) -> bytes:
    """A conversation without what it has cost so far: else that counts as this session's cost as well."""
    lines = file.read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b'{"type":"cost-state"'))


def _script(spec: SessionSpec) -> object:
    """The data of the rehearsal's script: the schedule's own, else one that suits its prompt and permissions."""
    if source := spec.options.get("rehearsal_script"):
        return rehearsals.script(source)
    asked = exercise.uses(
        allowed=list(spec.options.get("allowed_tools") or ()),
        refused=list(spec.options.get("disallowed_tools") or ()),
        edits=spec.options.get("permission_mode") == "acceptEdits",
        workspace=spec.workspace,
    )
    script = rehearsals.asking_for(asked, most_turns=spec.options.get("max_turns"))
    if schema := spec.options.get("json_schema"):
        script["turns"].append([{"type": "tool_use", "name": STRUCTURED, "input": made_up.value_for(schema)}])
    return script


def _spec_problems(spec: SessionSpec) -> dict[str, str]:
    problems = agent_launch.problems(spec)
    if spec.conversation and not agent_launch.is_uuid(spec.conversation.agent_session_id):
        problems["conversation"] = f"{spec.conversation.agent_session_id!r} is no UUID."
    return problems
