"""How a session is executed, in plain Python. This is the door: import from here and from nowhere below.

runner = load_runner("runners.script.ScriptRunner")
workspace = prepare(cache, "acme", ref="main", branch="rota/nightly/12-1", into=folder)
start(folder, runner.launch(spec), cwd=workspace.path, limits=Limits())
lines, offset = read_lines(folder, 0)
"""

from functools import cache
from importlib import import_module

from runners.base import (
    Conversation,
    DiskFull,
    Ending,
    Event,
    FetchFailed,
    Launch,
    Limits,
    Line,
    OptionsInvalid,
    ProcessIdentity,
    Program,
    ProgramMissing,
    RepositoryInvalid,
    Runner,
    RunnerError,
    SessionResult,
    SessionSpec,
    SupervisionError,
    Tally,
    WorkspaceError,
)
from runners.environment import Redactor, environment_problems
from runners.supervision import (
    ending_or_died,
    identify,
    is_alive,
    kill,
    read_lines,
    request_stop,
    start,
)
from runners.verdict import add as add_event
from runners.workspaces import (
    Archive,
    Cache,
    Probe,
    Workspace,
    archive,
    check_url,
    default_branch,
    diff_text,
    prepare,
    probe,
    reap,
    remove,
)

__all__ = [
    "Archive",
    "Cache",
    "Conversation",
    "DiskFull",
    "Ending",
    "Event",
    "FetchFailed",
    "Launch",
    "Limits",
    "Line",
    "OptionsInvalid",
    "Probe",
    "ProcessIdentity",
    "Program",
    "ProgramMissing",
    "Redactor",
    "RepositoryInvalid",
    "Runner",
    "RunnerError",
    "SessionResult",
    "SessionSpec",
    "SupervisionError",
    "Tally",
    "Workspace",
    "WorkspaceError",
    "add_event",
    "archive",
    "check_url",
    "default_branch",
    "diff_text",
    "ending_or_died",
    "environment_problems",
    "identify",
    "is_alive",
    "kill",
    "load_runner",
    "prepare",
    "probe",
    "read_lines",
    "reap",
    "remove",
    "request_stop",
    "start",
]


@cache
def load_runner(dotted_path: str) -> Runner:
    """The runner that a dotted path names, such as `runners.script.ScriptRunner`. One instance serves all.

    Raises ImportError or AttributeError where there is none.
    """
    module, _, name = dotted_path.rpartition(".")
    runner: Runner = getattr(import_module(module), name)()
    return runner
