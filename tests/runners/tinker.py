"""The agent of docs/runners.md: its runner as it stands there, and a program that speaks as it does."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "runners.md"


def documented_runner() -> Any:
    code = next(
        code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "class " in code
    )
    module = types.ModuleType("tinker")
    exec(compile(code, str(DOCUMENT), "exec"), module.__dict__)
    return module.__dict__["TinkerRunner"]()


def program(folder: Path, work: str) -> str:
    """A program that reads its prompt and then does these lines of shell."""
    file = folder / "tinker"
    file.write_text(f"#!/bin/sh\nread prompt\n{work}\n")
    file.chmod(0o755)
    return str(file)


def tells(line: object) -> str:
    """A line of shell that prints this as JSON."""
    return f"echo '{json.dumps(line)}'"
