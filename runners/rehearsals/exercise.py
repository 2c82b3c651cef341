"""Harmless uses of the tools that a schedule allows, for a rehearsal that asks for each of them once.

A rehearsal runs the real tools. So what it asks for is known to change nothing but a file of its own in the workspace:
a command whose effect is not known here is not run, nor is a tool that goes to the network or asks a model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from runners.environment import PATH

WRITTEN_FILE: Final = "rota-rehearsal.md"
NOTE: Final = "# A rehearsal wrote this file\n\nIt shows that files can be written here. No model was asked.\n"

# Of those that a rule allows the first is taken.
_COMMANDS: Final = (
    *("git log -5 --oneline", "git status --short", "git diff --stat", "git show --stat", "git branch"),
    *("git rev-parse HEAD", "ls", "pwd", "date", "echo rehearsed", "cat {file}", "head -n 5 {file}"),
    *("tail -n 5 {file}", "wc -l {file}"),
)
_OF_THE_SHELL: Final = frozenset({"cd", "echo", "export", "pwd", "set", "source", "test", "type", "ulimit", "wait"})
_BASH = re.compile(r"Bash(?:\((?P<pattern>.*)\))?", re.DOTALL)

Use = dict[str, Any]


def use(tool: str, **given: Any) -> Use:
    """A block of an answer that asks for a tool."""
    return {"type": "tool_use", "name": tool, "input": given}


def uses(*, allowed: Sequence[str], refused: Sequence[str], edits: bool, workspace: Path) -> list[Use]:
    """One harmless use for each rule that allows a tool, where there is one. `edits`: files may be written anyway.

    A workspace is looked at in any case: that needs no rule.
    """
    never = {str(rule).partition("(")[0] for rule in refused if "(" not in str(rule)}
    readable = next((file.name for file in sorted(workspace.glob("README*")) if file.is_file()), "")
    has_git = (workspace / ".git").exists()
    commands = [
        command.format(file=readable)
        for command in _COMMANDS
        if (readable or "{file}" not in command) and (has_git or not command.startswith("git "))
    ]
    found = dict.fromkeys(filter(None, (_command(rule, commands) for rule in allowed)))
    asked = [] if "Bash" in never else [use("Bash", command=each, description="Look around") for each in found]
    if readable and "Read" not in never and (not asked or any(rule.startswith("Read") for rule in allowed)):
        asked.append(use("Read", file_path=f"{{{{ workspace }}}}/{readable}", limit=20))
    return [*asked, *_edits(allowed, never, edits=edits)]


def _edits(allowed: Sequence[str], never: set[str], *, edits: bool) -> Iterator[Use]:
    file = f"{{{{ workspace }}}}/{WRITTEN_FILE}"
    may = {"Write", "Edit"} & set(allowed) or edits
    if not may or {"Write", "Edit"} & never:
        return
    yield use("Write", file_path=file, content=NOTE)
    if "Edit" in allowed:
        yield use("Edit", file_path=file, old_string="wrote this file", new_string="wrote and edited this file")


def _command(rule: str, commands: Sequence[str]) -> str:
    """The first of the commands that a rule for the shell allows; empty where there is none."""
    match = _BASH.fullmatch(rule)
    if not match:
        return ""
    pattern = match["pattern"] or "*"
    begin = re.split(r"[*:]", pattern)[0].strip()
    if "*" not in pattern:
        return begin if begin in commands else ""
    fitting = (each for each in commands if not begin or f"{each} ".startswith(f"{begin} "))
    return next(fitting, "")


def missing_programs(allowed: Sequence[str], *, path: str) -> list[str]:
    """Programs that rules for the shell name, and that are not on the PATH of sessions; empty: the system's."""
    names = (re.match(r"Bash\(([\w.+-]+)(?=[ :)])", rule) for rule in allowed)
    wanted = dict.fromkeys(name[1] for name in names if name and name[1] not in _OF_THE_SHELL)
    return [name for name in wanted if shutil.which(name, path=path or PATH) is None]
