"""What a runner takes of a schedule's options, and what it says of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runners.base import Option

# What says nothing though it is not empty.
USUAL: Final[Mapping[str, Any]] = {"permission_mode": "dontAsk"}


def not_taken(
    options: Mapping[str, Any], taken: Mapping[str, Option], *, runner: str, instead: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A refusal of each option that says something and is not taken. `instead`: what to do about some of them."""
    otherwise = f"The runner “{runner}” takes none. Leave it empty."
    return {
        name: (instead or {}).get(name, otherwise)
        for name, value in options.items()
        if name not in taken and value and value != USUAL.get(name)
    }


def not_chosen(options: Mapping[str, Any], taken: Mapping[str, Option]) -> dict[str, str]:
    """A refusal of each value, or entry of a list, that is none of the choices."""
    found = {}
    for name, option in taken.items():
        value = options.get(name) or ()
        given = value if isinstance(value, list | tuple) else (value,)
        if option.choices and (wrong := [str(each) for each in given if each not in option.choices]):
            found[name] = f"{', '.join(wrong)}: is none of {', '.join(option.choices)}."
    return found
