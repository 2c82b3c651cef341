"""Sessions by Codex, through its documented command line: `codex exec --json`.

The prompt goes in on standard input. All settings are given on the command line, where nothing that the repository
brings goes before them. Codex runs the agent's commands in a sandbox of its own, which decides what the agent may do:
see MODES. docs/runners.md tells what else differs from Claude Code.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from runners import (
    agent_launch,
    codex_options,
    codex_rollout,
    codex_stream,
    mcp_servers,
    rehearsal,
    rehearsals,
    structured,
    tallying,
    verdict,
)
from runners.agent_programs import NOWHERE, Product
from runners.base import (
    Conversation,
    Ending,
    Event,
    Launch,
    Line,
    Option,
    OptionsInvalid,
    Program,
    SandboxUnavailable,
    SessionResult,
    SessionSpec,
    Tally,
)
from runners.codex_options import MODES
from runners.rehearsals import made_up

MINIMUM_VERSION: Final = (0, 160, 0)  # 0.150 keeps no record of each answer of the model
TRIED_VERSION: Final = (0, 169, 0)
# Not below TMPDIR: in a temporary folder Codex lays no `apply_patch` for its commands. The agent can't write there.
CONFIG_FOLDER: Final = ".codex"
CONFIG_FILE: Final = f"{CONFIG_FOLDER}/config.toml"  # Codex wants the folder to be there
PROMPT_FILE: Final = "prompt.txt"
SCHEMA_FILE: Final = "result-schema.json"
PROMPT_LENGTH: Final = 1_048_576  # characters; Codex takes no more
SKILL_DEPTH: Final = 6  # of folders; Codex looks no deeper
SKILL_FOLDERS: Final = 10_000
OPENAI: Final = "https://api.openai.com/v1"

# What holds in every session, whatever a repository's own settings say.
HELD: Final[Mapping[str, Any]] = {
    "approval_policy": "never",
    "sandbox_workspace_write.network_access": False,
    "sandbox_workspace_write.exclude_slash_tmp": True,  # TMPDIR is the session's own
    "shell_environment_policy.inherit": "all",
    "shell_environment_policy.ignore_default_excludes": True,  # the secrets that a schedule names are meant for it
    "shell_environment_policy.exclude": ["OPENAI_*", "CODEX_API_KEY"],  # the key is Codex's and not the agent's
    "allow_login_shell": False,  # it would set PATH anew
    "cli_auth_credentials_store": "file",
    "web_search": "disabled",
    "analytics.enabled": False,
    "feedback.enabled": False,
    "check_for_update_on_startup": False,
    "skills.bundled.enabled": False,
    "features.apps": False,
    "features.plugins": False,  # it would fetch them from GitHub at each start
    "features.goals": False,  # they would go on after the turn
    "features.shell_snapshot": False,
    "features.unbounded_connection_retries": False,
}
# A question that is lost is asked again before the silence limit; a wrong key is told after some seconds.
PROVIDER: Final[Mapping[str, Any]] = {
    "name": "rota",
    "wire_api": "responses",
    "request_max_retries": 3,
    "stream_max_retries": 5,
    "stream_idle_timeout_ms": 240_000,
    "supports_websockets": False,
}
# In a repository that is not trusted: nothing of it is taken for instructions or settings.
UNTRUSTED: Final[Mapping[str, Any]] = {
    "project_doc_max_bytes": 0,
    "skills.include_instructions": False,
    "features.hooks": False,
}

PRODUCT: Final = Product(
    name="Codex",
    minimum=MINIMUM_VERSION,
    tried=TRIED_VERSION,
    version=re.compile(r"codex-cli (\d+)\.(\d+)\.(\d+)"),
    environment={"CODEX_HOME": NOWHERE},
)

# Of a tally, what the stream alone tells; the rest is in the rollouts.
OF_THE_STREAM: Final = (
    *("agent_session_id", "activity", "result", "last_text", "errors", "fault", "denied", "rate_limit_resets_at"),
    "events",
)


_UNEQUIPPED: Final = re.compile("required MCP servers failed")


class CodexRunner:
    name: ClassVar[str] = "codex"
    options: ClassVar[Mapping[str, Option]] = codex_options.OPTIONS
    is_agent: ClassVar[bool] = True
    provider: ClassVar[str] = "openai"
    credentials: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL")

    def problems(self, options: Mapping[str, Any]) -> dict[str, str]:
        return codex_options.problems(options)

    def program(self, path: str = "") -> Program:
        """The given program, else the one on PATH; instead of npm's script, the program that the script starts."""
        file = Path(path or shutil.which("codex") or "")
        missing = f"There is no Codex {f'at {path}' if path else 'on PATH'}. Install it, or give its full path."
        return PRODUCT.check(_started_by(file), missing=missing)

    def launch(self, spec: SessionSpec) -> Launch:
        problems = self.problems(spec.options) | _spec_problems(spec)
        if problems:
            raise OptionsInvalid(problems)
        files = {CONFIG_FILE: _config(spec), PROMPT_FILE: spec.prompt.encode()}
        if spec.options.get("json_schema"):
            files[SCHEMA_FILE] = json.dumps(spec.options["json_schema"]).encode()
        if spec.conversation:
            files |= _conversation_files(spec, spec.conversation)
        program = self.program(spec.program).path
        argv = [program, *_arguments(spec)]
        cache = {"XDG_CACHE_HOME": str(spec.home / "tmp" / "cache")}  # the sandbox lets nobody write elsewhere in HOME
        # Codex tells times in its own zone: see runners.codex_limits. Its commands have the schedule's.
        extra = {**cache, **spec.environment, "TZ": "UTC", "CODEX_HOME": str(spec.home / CONFIG_FOLDER)}
        return agent_launch.launch(
            spec,
            argv=argv,
            extra=extra,
            files=files,
            script=_script,
            result_type="turn.completed",
            stdin_file=PROMPT_FILE,
            reads=(_package(program), *mcp_servers.absolute_commands(spec.options.get("mcp_servers"))),
        )

    def read(self, line: Line) -> list[Event]:
        return codex_stream.read(line)

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        """With what Codex keeps besides what it prints."""
        earlier = spec.conversation.file if spec.conversation else None
        files = codex_rollout.find(spec.home / CONFIG_FOLDER)
        told = codex_rollout.account(files, thread=tally.agent_session_id, earlier=earlier)
        whole = _structured(_completed(tally, told), spec)
        result = verdict.judge(ending, whole, spec.options, rehearse=spec.rehearse)
        if result.reason == "no_result" and (said := next(filter(_UNEQUIPPED.search, tally.errors), "")):
            return replace(result, reason="unequipped", message=said)
        if result.outcome == "succeeded" and told.no_sandbox:
            message = f"Codex could not make the sandbox that it runs commands in: {told.no_sandbox}."
            return replace(result, outcome="failed", reason=SandboxUnavailable.reason, message=message)
        return result

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        """The rollout of the session's own conversation: the first one, for its subagents begin later."""
        for file in codex_rollout.find(spec.home / CONFIG_FOLDER)[:1]:
            if 0 < file.stat().st_size <= agent_launch.CONVERSATION_BYTES:
                return Conversation(agent_session_id=codex_rollout.thread_id(file), file=file)
        return None


def _started_by(file: Path) -> Path:
    """The program itself: npm's script needs Node.js on the PATH of sessions, and is one more process in each."""
    script = file.resolve()
    if script.name != "codex.js":
        return file
    package = script.parent.parent
    for folder in (package / "node_modules" / "@openai", package.parent, package.parent.parent / "@openai"):
        for found in sorted(folder.glob("codex-*/vendor/*/bin/codex")):
            return found
    return file


def _package(program: str) -> str:
    """The folder of the programs that Codex brings for its own use, or Codex alone where it came without them."""
    folder = Path(program).resolve().parent.parent
    return str(folder) if (folder / "codex-package.json").is_file() else program


def _arguments(spec: SessionSpec) -> Iterator[str]:
    """Each value is bound to its option by `=`: none can become an option of its own."""
    options = spec.options
    yield from ("exec", "--json", f"--model={options['model']}")
    if not (spec.workspace / ".git").exists():
        yield "--skip-git-repo-check"
    if not _is_trusted(spec):
        yield "--ignore-rules"
    if options.get("json_schema"):
        yield f"--output-schema={spec.home / SCHEMA_FILE}"
    for key, value in _settings(spec):
        yield f"--config={key}={_toml(value)}"
    if spec.conversation:
        yield from ("resume", spec.agent_session_id)
    yield "-"  # the prompt is on standard input


def _settings(spec: SessionSpec) -> Iterator[tuple[str, Any]]:
    yield "sandbox_mode", MODES[spec.options.get("permission_mode") or "dontAsk"]
    yield from HELD.items()
    if zone := spec.environment.get("TZ"):
        yield "shell_environment_policy.set", {"TZ": zone}
    if not _is_trusted(spec):
        yield from UNTRUSTED.items()
    trust = "trusted" if _is_trusted(spec) else "untrusted"
    yield "projects", {str(spec.workspace.resolve()): {"trust_level": trust}}
    if spec.options.get("effort"):
        yield "model_reasoning_effort", spec.options["effort"]
    for name, server in (spec.options.get("mcp_servers") or {}).items():
        yield f"mcp_servers.{name}", codex_options.mcp_server(server)
    if spec.options.get("append_system_prompt"):
        yield "developer_instructions", spec.options["append_system_prompt"]
    yield "model_provider", "rota"
    yield "model_providers.rota", {**PROVIDER, **_access(spec)}


def _config(spec: SessionSpec) -> bytes:
    """What can't be told on the command line: that the skills of a repository that is not trusted are off.

    Else a prompt with `$name` in it, such as a stranger's issue, would make the repository's words instructions.
    """
    found = () if _is_trusted(spec) else _skills(spec.workspace)
    off = [{"path": path, "enabled": False} for path in found]
    return f"skills = {_toml({'config': off})}\n".encode("utf-8", "replace")


def _skills(workspace: Path) -> Iterator[str]:
    """The files of the skills that Codex would find, through links as well."""
    for top in (workspace / ".agents" / "skills", workspace / ".codex" / "skills"):
        for folder, below, names in itertools.islice(os.walk(top, followlinks=True), SKILL_FOLDERS):
            if "SKILL.md" in names:
                yield f"{folder}/SKILL.md"
            if Path(folder).relative_to(top).parts[SKILL_DEPTH:]:
                below.clear()


def _access(spec: SessionSpec) -> dict[str, str]:
    """Where the model is, and the variable that holds the key to it."""
    if spec.rehearse:
        return {"base_url": f"{rehearsal.MODEL_URL}/v1", "env_key": "OPENAI_API_KEY"}
    key = "CODEX_API_KEY" if spec.environment.get("CODEX_API_KEY") else "OPENAI_API_KEY"
    return {"base_url": spec.environment.get("OPENAI_BASE_URL") or OPENAI, "env_key": key}


def _is_trusted(spec: SessionSpec) -> bool:
    return "project" in (spec.options.get("setting_sources") or ())


def _toml(value: Any) -> str:
    """A value as TOML writes it. JSON's texts are TOML's, but for one control character."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _conversation_files(spec: SessionSpec, conversation: Conversation) -> dict[str, bytes]:
    """The conversation under the id that Rota chose for this session; the file it comes from stays as it was."""
    try:
        path, data = codex_rollout.as_conversation(conversation.file.read_bytes(), thread=spec.agent_session_id)
    except ValueError as error:
        raise OptionsInvalid({"conversation": f"{conversation.file} can't be gone on with: {error}."}) from error
    return {str(CONFIG_FOLDER / path): data}


def _completed(tally: Tally, told: codex_rollout.Account) -> Tally:
    """The tally with each answer of the model, and with a result that has the text it lacks in the stream."""
    whole = replace(tally, model=told.model)
    if told.answers:
        counted = Tally(model=told.model)
        for answer in told.answers:
            tallying.add(counted, answer)
        streamed: dict[str, Any] = {name: getattr(tally, name) for name in OF_THE_STREAM}
        whole = replace(counted, **streamed)
    if tally.models:  # the stream tells of a model only where it is another one
        whole.models, whole.model = [*dict.fromkeys([*whole.models, *tally.models])], tally.models[-1]
    if whole.result and not whole.result.data.get("is_error"):
        words = told.last_words if told.is_complete else whole.last_text
        whole.result = replace(whole.result, text=words)
    return whole


def _structured(tally: Tally, spec: SessionSpec) -> Tally:
    """With a schema, the result's text is to be the JSON that it asked for."""
    if spec.options.get("json_schema") and tally.result:
        found = structured.parsed(spec.redactor.text(tally.result.text))
        tally.result = replace(tally.result, data={**tally.result.data, "structured": found})
    return tally


def _script(spec: SessionSpec) -> object:
    """The data of the rehearsal's script: the schedule's own, else one that suits its prompt and permissions."""
    if source := spec.options.get("rehearsal_script"):
        return rehearsals.script(source)
    readable = sorted(file.name for file in spec.workspace.glob("README*") if file.is_file())
    script = rehearsals.default(
        run_git=(spec.workspace / ".git").exists(),
        write=MODES[spec.options.get("permission_mode") or "dontAsk"] == "workspace-write",
        read=next(iter(readable), ""),
    )
    if schema := spec.options.get("json_schema"):
        script["end"] = json.dumps(made_up.value_for(schema))
    return script


def _spec_problems(spec: SessionSpec) -> dict[str, str]:
    problems = agent_launch.problems(spec)
    if len(spec.prompt) > PROMPT_LENGTH:
        problems["prompt"] = f"It has {len(spec.prompt)} characters; Codex takes at most {PROMPT_LENGTH}."
    return problems
