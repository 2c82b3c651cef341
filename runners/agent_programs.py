"""Whether the program of an agent is there, and which version it is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from runners.base import Program, ProgramMissing

SECONDS: Final = 30  # to tell its version
NOWHERE: Final = "/nonexistent"  # for a folder that a program need not have to tell its version

Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Product:
    """An agent program: its name for people, and how it tells its version when it is asked with `--version`."""

    name: str
    minimum: Version  # an older one is refused
    tried: Version  # the oldest one that the tests ran with: what is between the two may work
    version: re.Pattern[str]  # matches the beginning of what it prints; its groups are numbers
    environment: Mapping[str, str] = field(default_factory=dict)  # beside PATH and HOME; nothing of ours

    def check(self, file: Path, *, missing: str) -> Program:
        """The program at this path. Raises ProgramMissing: with the sentence `missing` where there is none."""
        # Access first: it is refused in words where a folder on the way is closed, and `is_file` raises.
        if not file.is_absolute() or not os.access(file, os.X_OK) or not file.is_file():
            raise ProgramMissing(missing)
        said = _said(str(file), file.stat().st_mtime_ns, tuple(sorted(self.environment.items())))
        numbers = self.version.match(said)
        if not numbers:
            told = said.strip()[:200]
            raise ProgramMissing(f"{file} does not seem to be {self.name}. Asked for its version it said: {told!r}")
        version = tuple(int(number) for number in numbers.groups())
        if version < self.minimum:
            least = _dotted(self.minimum)
            raise ProgramMissing(f"{file} is {self.name} {_dotted(version)}; Rota needs {least} or newer.")
        remark = ""
        if version < self.tried:
            remark = f"{self.name} {_dotted(version)} is older than {_dotted(self.tried)}, the oldest that was tried."
        return Program(path=str(file), version=_dotted(version), remark=remark)


@lru_cache(maxsize=16)
def _said(path: str, mtime_ns: int, environment: tuple[tuple[str, str], ...]) -> str:
    """What it prints when it is asked for its version. Remembered until the file changes."""
    try:
        answer = subprocess.run(
            [path, "--version"],
            env={"PATH": os.defpath, "HOME": NOWHERE, **dict(environment)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramMissing(f"{path} could not be asked for its version: {error}") from error
    return answer.stdout + answer.stderr


def _dotted(version: Version) -> str:
    return ".".join(str(number) for number in version)
