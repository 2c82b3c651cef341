"""Scripts for rehearsals: what a scripted model says. `runners.scripted_model` tells their format and plays them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runners.rehearsals.exercise import NOTE, Use, use
from runners.rehearsals.exercise import WRITTEN_FILE as WRITTEN_FILE
from runners.scripted_model import ScriptInvalid, parse_script

FOLDER: Final = Path(__file__).parent

THIS_WAS_A_REHEARSAL: Final = (
    "This was a rehearsal. The real agent program ran in its workspace with its prompt, tools and limits; a script "
    "answered in place of a model. No model was asked, and it cost nothing.\n\n"
    "The prompt began:\n\n{{ prompt }}\n\nThe tools returned:\n\n{{ results }}\n"
)


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def script(source: object) -> Any:
    """The data of a script, which is given by its name or as its data. Raises ScriptInvalid."""
    data = source
    if isinstance(source, str):
        file = FOLDER / f"{source}.json"
        if not re.fullmatch(r"[a-z0-9-]+", source) or not file.is_file():
            raise ScriptInvalid(f"There is no rehearsal script {source!r}. Known are: {', '.join(names())}.")
        data = json.loads(file.read_bytes())
    parse_script(data)
    return data


def default(*, run_git: bool, write: bool, read: str = "", most_turns: int | None = None) -> dict[str, Any]:
    """The data of a script that suits any prompt: look, write a file where that is allowed, and say what this was.

    `run_git`: `git log` may be run. `write`: files may be written. `read`: a file to look at instead, if there is one.
    `most_turns`: the cap on turns, of which saying what this was takes one.
    """
    asked: list[Use] = []
    if run_git:
        asked.append(use("Bash", command="git log -5 --oneline", description="Look at the last commits"))
    elif read:
        asked.append(use("Read", file_path=f"{{{{ workspace }}}}/{read}", limit=20))
    if write:
        asked.append(use("Write", file_path=f"{{{{ workspace }}}}/{WRITTEN_FILE}", content=NOTE))
    return asking_for(asked, most_turns=most_turns)


def asking_for(asked: Sequence[Use], *, most_turns: int | None = None) -> dict[str, Any]:
    """The data of a script that asks for these tools, one a turn, and says what this was.

    Within a cap on turns, of which saying what this was takes one, the last one before it asks for all that is left.
    """
    room = len(asked) if most_turns is None else most_turns - 1
    turns = [[one] for one in asked[:room]]
    if turns:
        turns[-1] += asked[room:]
    return {"turns": turns, "end": THIS_WAS_A_REHEARSAL}
