"""Secrets in what a session wants to leave behind: looked for before anything of it is kept.

Every object that the session made is read: files, also of commits in between, names, messages. What is compressed or
encrypted by the session is not understood.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO

from runners.redaction import Redactor
from runners.workspaces.git import Place, git

_SHORTEST_LINE = 16  # characters of a line, in a secret of several: shorter ones are in many a file


def leaked(
    place: Place, *, base: str, tip: str, secrets: Mapping[str, str], scratch: Path, timeout: timedelta
) -> tuple[str, ...]:
    """The names of those secrets (name → value) that are in what `tip` has and `base` has not.

    `scratch` is a folder of ours for what is read. What stands in the files of `base` is no secret to who has these.
    Raises GitFailed.
    """
    if not secrets or tip == base:
        return ()
    action = "Looking for secrets in the changes"
    listed = git(
        *("rev-list", "--objects", "--no-object-names", tip, f"^{base}"), at=place, action=action, timeout=timeout
    )
    with tempfile.TemporaryFile(dir=scratch) as content:
        git(
            *("cat-file", "--batch", "--buffer"),
            at=place,
            action=action,
            timeout=timeout,
            stdin=listed.out,
            stdout=content,
        )
        found = [name for name, value in secrets.items() if _is_in(content, value)]
    return tuple(name for name in found if not _is_published(place, base, secrets[name], timeout=timeout))


def _is_in(content: IO[bytes], value: str) -> bool:
    content.seek(0)
    return Redactor([value], shortest_line=_SHORTEST_LINE).is_in(content)


def _is_published(place: Place, base: str, value: str, *, timeout: timedelta) -> bool:
    line = max(value.splitlines(), key=len, default="")
    answer = git(
        *("grep", "--quiet", "--text", "--fixed-strings", "-f", "-", base),
        at=place,
        action="Looking for secrets in the repository",
        timeout=timeout,
        stdin=line.encode(errors="surrogateescape") + b"\n",
        success=(0, 1),
    )
    return answer.code == 0
