"""The contract between Rota and what executes a session. Values in, values out.

A runner is one small class that knows one kind of program: how it is started (`launch`), what the lines mean that it
prints (`read`), and what its end amounts to (`judge`). It owns no process: `runners.supervision` does, through a shim.

    SessionSpec ──launch──► Launch ──supervision──► Line… ──read──► Event… ──► Tally ─┐
                                         └────────► Ending ─────────────judge─────────┴──► SessionResult

Errors:

    RunnerError
    ├── OptionsInvalid       the schedule's options can't be launched (names the field)
    ├── ProgramMissing       the agent program or the script's interpreter is not on this machine
    ├── WorkspaceError       no isolated checkout could be made or kept
    │   ├── RepositoryInvalid    URL, path or branch is refused or is not a git repository
    │   └── FetchFailed          the forge did not answer, refused, or took too long
    ├── DiskFull             there is no room for the session
    ├── SandboxUnavailable   the session is to be in a sandbox, and none can be made on this machine
    ├── Unwanted             its end was asked for while it was prepared
    └── SupervisionError     the shim could not be started or its folder is damaged
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from runners.prices import Usage
from runners.redaction import Redactor


class RunnerError(Exception):
    """Root of what a session can fail of before or beside its own program. `reason` is the reason code to record."""

    reason: ClassVar[str] = "runner_error"


class OptionsInvalid(RunnerError):
    reason = "invalid_options"

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {text}" for name, text in problems.items()))


class ProgramMissing(RunnerError):
    reason = "program_missing"


class WorkspaceError(RunnerError):
    reason = "workspace_failed"


class RepositoryInvalid(WorkspaceError):
    reason = "repository_invalid"


class FetchFailed(WorkspaceError):
    reason = "fetch_failed"


class DiskFull(RunnerError):
    reason = "disk_full"


class SandboxUnavailable(RunnerError):
    reason = "sandbox_unavailable"


class Unwanted(RunnerError):
    reason = "cancelled"


class SupervisionError(RunnerError):
    reason = "shim_failed"


CostSource = Literal["", "reported", "reckoned", "unknown"]
"""Who says what a session cost: its program, the price table, nobody. Empty: it asked no model that costs anything."""

Outcome = Literal["succeeded", "failed", "timed_out", "cancelled", "lost"]

EventKind = Literal[
    "note",  # Rota's own words: workspace ready, rehearsed, resumed
    "init",  # the agent started: data = {model, tools, agent_session_id, version}
    "text",  # what the agent said
    "thinking",
    "tool_use",  # data = {id, name, input (capped)}
    "tool_result",  # data = {id, is_error}
    "usage",  # one line of an answer; data: see `runners.tallying`
    "rate_limit",  # data = {status, resets_at}; see `runners.tallying`
    "output",  # a line of a script or function
    "stderr",
    "error",  # the program's own report of a fault
    "result",  # the result line; data = {subtype, is_error, turns, cost_usd, …}
    "limit",  # the shim ended the process: data = {ended_by}
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """An earlier conversation to go on with: the agent's own session id and the file that holds it."""

    agent_session_id: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """All that a runner may know of one session.

    `options` holds the schedule's runner fields by their names (`model`, `max_turns`, `argv`, `function`, …), as in the
    run's snapshot. `environment` holds the schedule's variables and secrets and nothing of the worker's. `folder` is
    the session's own folder (mode 0700), `home` its HOME inside it, `workspace` the checkout it works in.
    """

    agent_session_id: str  # a UUID, chosen by Rota, so that the conversation is known from the start
    folder: Path
    home: Path
    workspace: Path
    prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""  # path of the agent program; empty: the runner finds it
    conversation: Conversation | None = None
    rehearse: bool = False
    path: str = ""  # PATH of the session; empty: the system's directories
    redactor: Redactor = field(default_factory=lambda: Redactor(()))  # of what is not to be told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the shim holds. Durations are wall clock; None: no limit. `output_bytes`: kept per session.

    `cgroup`: a folder of the cgroup file system, version 2, in which the shim may make one for the session: it was
    delegated with its controllers `memory` and `pids`, and no process is in it itself. See `runners.confinement`.
    """

    timeout: timedelta = timedelta(minutes=30)
    silence: timedelta | None = timedelta(minutes=10)
    output_bytes: int = 50 * 1024 * 1024
    result_grace: timedelta = timedelta(seconds=30)  # from the result line until TERM
    kill_grace: timedelta = timedelta(seconds=10)  # from TERM until KILL
    turns: int | None = None  # answers of the model; held where the launch says which lines are answers
    memory_bytes: int | None = None  # of all its processes, but for what is cached of files
    tasks: int | None = None  # processes and their threads
    nice: int = 0  # 0 to 19: the higher, the more it leaves to others
    cgroup: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """Which lines on stdout are a part of an answer of the model, so that the shim can hold a cap on turns.

    Those that are a JSON object whose own `type` is this, with nothing at the paths of `without`, and not with the
    values of `but` at theirs. Lines with the same value at the path `id` are one answer. A path is `message.id`, say.
    """

    type: str
    id: str
    without: Sequence[str] = ()
    but: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a process is started: argv, its whole environment (an allow-list), files to write below HOME first.

    `result_prefix`: a line on stdout that starts with it is the program's result; the shim then grants a grace and ends
    what is left. `result_type`: the same for a line that is a JSON object whose own `type` is this, wherever in the
    line it stands (Claude Code 2.1.327 prints `{"duration_api_ms":…,"type":"result",…}`). `answers`: for the cap on
    turns. `stdin_file`: one of
    `files` (the same relative path) to be opened as standard input; else it is /dev/null. A prompt goes there: it is
    then never an option, never in `ps`, and may be longer than one argument can be (128 KiB). `reads`: files and
    folders of the machine that it needs beside the system's own, its program among them; a sandbox shows no others.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    result_prefix: str = ""
    working_directory: str = "."  # below the workspace
    result_type: str = ""
    answers: AnswerRule | None = None
    stdin_file: str = ""
    reads: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process that can be told from a stranger with the same pid."""

    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat
    boot_id: str  # /proc/sys/kernel/random/boot_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that the session's process printed, without its newline; bytes as they came."""

    at_ms: int  # Unix time in milliseconds
    stream: Literal["out", "err", "shim"]
    data: bytes


EndedBy = Literal[
    "",
    "timed_out",
    "stalled",
    "max_turns",
    "budget",
    "out_of_memory",
    "too_many_processes",
    "cancelled",
    "shutdown",
    "lingered",
    "program_missing",
    "disk_full",
    "shim_died",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process ended, as the shim saw it. `ended_by` is empty when it ended by itself.

    `lingered`: it went on after its result line and was ended after the grace. `shim_died`: nobody knows.
    """

    exit_code: int | None
    signal: int | None
    ended_by: EndedBy
    started_at_ms: int
    ended_at_ms: int
    output_bytes: int  # all that it printed, whether or not it was kept
    truncated: bool = False  # not all of it was kept
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a session. `text` is for people, `data` small and JSON-able."""

    kind: EventKind
    at_ms: int
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the events so far add up to: the live counters, and what a verdict is made from. See `runners.tallying`."""

    model: str = ""  # that answered last, subagents aside; until then the one the program says it will ask
    models: list[str] = field(default_factory=list)  # all that answered, subagents aside, first one first
    agent_session_id: str = ""
    program_version: str = ""
    turns: int = 0  # answers of the model, subagents aside: what a cap on turns counts
    input_tokens: int = 0  # neither read from nor written to the cache
    output_tokens: int = 0
    cached_tokens: int = 0  # read from or written to the cache
    reported_usd: float | None = None  # what the program says that it spent
    reckoned_usd: float = 0.0  # what the answers so far cost, as far as they have a price; see `runners.reckoning`
    reckoned_before_usd: float = 0.0  # the same before the latest answer
    unpriced: list[str] = field(default_factory=list)  # models that answered and have no price
    usages: dict[str, Usage] = field(default_factory=dict)  # tokens by the id of the answer
    said: dict[str, int] = field(default_factory=dict)  # about how many tokens of it were printed, by its id
    activity: str = ""  # what it does right now: the tool being used, or the state, for the live view
    result: Event | None = None  # the last result line
    last_text: str = ""
    errors: list[str] = field(default_factory=list)  # the last few, standard error among them
    fault: str = ""  # the program's word for a fault it has not recovered from: rate_limit, authentication_failed, …
    denied: list[str] = field(default_factory=list)  # tools that were asked for and refused
    mcp_servers: dict[str, str] | None = None  # name → how it is, `connected` say; None: the program does not tell
    plugin_faults: list[str] = field(default_factory=list)
    rate_limit_resets_at: int | None = None  # Unix seconds
    rate_limit_model: str = ""  # the limit is of this model alone, such as opus; empty: of all
    answers: set[str] = field(default_factory=set)  # ids of the answers counted so far
    events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """The verdict: outcome, its reason code, a sentence for people, and what the session produced."""

    outcome: Outcome
    reason: str  # `ok` when succeeded
    message: str = ""
    result: str = ""  # the result text, Markdown
    summary: str = ""  # its first sentence or line, at most 200 characters
    model: str = ""
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    cost_source: CostSource = ""
    denied: Sequence[str] = ()
    structured: Any = None  # the result as JSON, where the schedule's schema asked for it; see `runners.structured`
    resets_at: int | None = None  # Unix seconds: before then a rate limit makes it pointless to try again


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that a runner would start: its absolute path and the version it reports.

    `remark`: what is to be known of that version, such as that it is older than those that were tried.
    """

    path: str
    version: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option that a runner takes. `choices`: the only values of it, or entries of a list; empty: any."""

    choices: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()  # some of the many values that it may have


class Runner(Protocol):
    """One kind of session. Stateless; made without arguments; named in the setting ROTA_RUNNERS."""

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Option]]  # that it takes, by their names; any other that says something is refused
    is_agent: ClassVar[bool]  # talks to a model: has turns, tokens, cost, and can be rehearsed
    credentials: ClassVar[tuple[str, ...]]  # names of the credentials that its program reads from its environment
    provider: ClassVar[str]  # whose service its agent asks, such as anthropic: they share a quota. Empty: nobody's

    def problems(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a schedule's options: field name → what to do. Empty when all is well."""

    def program(self, path: str = "") -> Program | None:
        """The program it would start, or None where a session brings its own. Raises ProgramMissing."""

    def launch(self, spec: SessionSpec) -> Launch:
        """How to start this session. Raises OptionsInvalid, ProgramMissing.

        With a `spec.conversation` the session goes on with it, under its own `agent_session_id`, and leaves the file as
        it is. A runner that keeps none raises OptionsInvalid at `conversation`: nothing is begun without what went on.
        """

    def read(self, line: Line) -> list[Event]:
        """What one line means. Never raises: what it does not know becomes `output` or `stderr`."""

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        """The verdict. What is unknown is `failed`. It may read what the program left in `spec.folder`."""

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        """The file that a later session can go on from, where there is one. Called before HOME is removed.

        Always None where sessions stand alone, as those of scripts and functions do: see `runners.one_shot`.
        """
