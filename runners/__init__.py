"""How a session is executed, in plain Python. This is the door: import from here and from nowhere below.

runner = load_runner("runners.script.ScriptRunner")
workspace = prepare(cache, "acme", ref="main", branch="rota/nightly/12-1", into=folder)
start(folder, runner.launch(spec), cwd=workspace.path, limits=Limits())
lines, offset = read_lines(folder, 0)
"""

from functools import cache
from importlib import import_module

from runners.agent_launch import CONVERSATION_BYTES, open_conversation
from runners.base import (
    Conversation,
    DiskFull,
    Ending,
    Event,
    FetchFailed,
    Launch,
    Limits,
    Line,
    Option,
    OptionsInvalid,
    ProcessIdentity,
    Program,
    ProgramMissing,
    RepositoryInvalid,
    Runner,
    RunnerError,
    SandboxUnavailable,
    SessionResult,
    SessionSpec,
    SupervisionError,
    Tally,
    Unwanted,
    WorkspaceError,
)
from runners.egress import host_problem
from runners.environment import OF_EVERY_SESSION, environment_problems
from runners.following import read_lines
from runners.mcp_servers import wanted as mcp_variables
from runners.model_hosts import unreachable_model, unreachable_servers
from runners.postconditions import CHECKS, check_finding, check_folder, check_launch, end_checks, is_begun, read_check
from runners.privacy import make_private
from runners.reckoning import is_over_budget, spent
from runners.redaction import SHORTEST_SECRET, Redactor
from runners.rehearsal_report import Asked, Gap, Rehearsed, Report, report_on
from runners.rehearsals.exercise import missing_programs
from runners.sandbox import Sandbox
from runners.sandbox import available as sandbox_obstacle
from runners.sandbox import wrap as wrap_in_sandbox
from runners.supervision import (
    await_end,
    ending_or_died,
    identify,
    is_alive,
    kill,
    request_stop,
    start,
)
from runners.tallying import add as add_event
from runners.workspaces import (
    Archive,
    Bounds,
    Cache,
    Dropped,
    Kept,
    KeptCheckout,
    Probe,
    Reaped,
    StartPoint,
    Workspace,
    archive,
    as_long_as,
    bundle,
    bundle_branch,
    check_branch,
    check_url,
    default_branch,
    diff_text,
    find_start,
    is_folder,
    leftover_of,
    plain_errors,
    prepare,
    probe,
    reap,
    remove,
    size,
    unbundle,
    waiting,
)

__all__ = [
    "CHECKS",
    "CONVERSATION_BYTES",
    "OF_EVERY_SESSION",
    "SHORTEST_SECRET",
    "Archive",
    "Asked",
    "Bounds",
    "Cache",
    "Conversation",
    "DiskFull",
    "Dropped",
    "Ending",
    "Event",
    "FetchFailed",
    "Gap",
    "Kept",
    "KeptCheckout",
    "Launch",
    "Limits",
    "Line",
    "Option",
    "OptionsInvalid",
    "Probe",
    "ProcessIdentity",
    "Program",
    "ProgramMissing",
    "Reaped",
    "Redactor",
    "Rehearsed",
    "Report",
    "RepositoryInvalid",
    "Runner",
    "RunnerError",
    "Sandbox",
    "SandboxUnavailable",
    "SessionResult",
    "SessionSpec",
    "StartPoint",
    "SupervisionError",
    "Tally",
    "Unwanted",
    "Workspace",
    "WorkspaceError",
    "add_event",
    "archive",
    "as_long_as",
    "await_end",
    "bundle",
    "bundle_branch",
    "check_branch",
    "check_finding",
    "check_folder",
    "check_launch",
    "check_url",
    "default_branch",
    "diff_text",
    "end_checks",
    "ending_or_died",
    "environment_problems",
    "find_start",
    "host_problem",
    "identify",
    "is_alive",
    "is_begun",
    "is_folder",
    "is_over_budget",
    "kill",
    "leftover_of",
    "load_runner",
    "make_private",
    "mcp_variables",
    "missing_programs",
    "open_conversation",
    "plain_errors",
    "prepare",
    "probe",
    "read_check",
    "read_lines",
    "reap",
    "remove",
    "report_on",
    "request_stop",
    "sandbox_obstacle",
    "size",
    "spent",
    "start",
    "unbundle",
    "unreachable_model",
    "unreachable_servers",
    "waiting",
    "wrap_in_sandbox",
]


@cache
def load_runner(dotted_path: str) -> Runner:
    """The runner that a dotted path names, such as `runners.script.ScriptRunner`. One instance serves all.

    Raises ImportError or AttributeError where there is none.
    """
    module, _, name = dotted_path.rpartition(".")
    runner: Runner = getattr(import_module(module), name)()
    return runner
