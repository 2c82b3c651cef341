"""What a session's process sees of its surroundings.

The environment of a session is an allow-list: what is below, and what its schedule names. Nothing
of the worker's own environment is handed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from runners import processes
from runners.base import OptionsInvalid

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST_VALUE = 128 * 1024 - 1  # bytes of NAME=value that Linux hands to a program

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Nobody is there to answer a question, to page through text or to write a message in an editor.
_UNATTENDED = {
    "CI": "1",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
}
_LOCALE = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Rota",
    "GIT_AUTHOR_EMAIL": "rota@localhost",
    "GIT_COMMITTER_NAME": "Rota",
    "GIT_COMMITTER_EMAIL": "rota@localhost",
}
_USER = {"USER": "rota", "LOGNAME": "rota"}

OF_EVERY_SESSION = frozenset({*_UNATTENDED, *_LOCALE, *_GIT, *_USER, "PATH", "HOME", "TMPDIR"})
"""Names of variables that a session has whatever its schedule says."""

_FOREIGN_CODE = "makes every program of the session load code from elsewhere"
_OURS = "Rota sets it anew for each session"
_REFUSED = {
    "HOME": _OURS,
    "TMPDIR": _OURS,
    processes.MARKER: _OURS,
    "PATH": "it is the same for all sessions of a worker; call a program by its full path instead",
    "LD_PRELOAD": _FOREIGN_CODE,
    "LD_AUDIT": _FOREIGN_CODE,
    "LD_LIBRARY_PATH": _FOREIGN_CODE,
}


def environment_problems(variables: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with variables for a session: name → a sentence. Empty when all is well."""
    found = {}
    for name, value in variables.items():
        if not _NAME.fullmatch(name):
            found[name] = "A name has letters, digits and _ only, and no digit at its beginning."
        elif name in _REFUSED:
            found[name] = f"{name} can't be set: {_REFUSED[name]}."
        elif "\0" in value:
            found[name] = f"The value of {name} has a NUL character, which no program can be given."
        elif len(name) + len(value.encode(errors="surrogateescape")) >= LONGEST_VALUE:
            found[name] = f"The value of {name} is longer than the 128 KiB a program can be given."
    return found


def session_environment(*, home: Path, extra: Mapping[str, str], path: str | None = None) -> dict[str, str]:
    """The whole environment of a session: ours, and `extra`, which may replace some of ours.

    `path` is the worker's setting of PATH for its sessions. TMPDIR lies in `home` and goes with it.
    Raises OptionsInvalid when `extra` names what can't be set.
    """
    if problems := environment_problems(extra):
        raise OptionsInvalid({"environment": " ".join(problems.values())})
    fixed = {"PATH": path or PATH, "HOME": str(home), "TMPDIR": str(home / "tmp")}
    return _UNATTENDED | _LOCALE | _GIT | _USER | fixed | dict(extra)
