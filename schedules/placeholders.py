"""The template grammar of prompts: `{{ name }}` and `{{ var.name }}`, nothing else. Pure.

There is no logic, no attribute access and no second pass: a value that contains `{{ … }}` stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

PLACEHOLDERS: Mapping[str, str] = {
    "number": "number of the issue or pull request",
    "title": "its title, fenced as data",
    "body": "its text, fenced as data",
    "head_ref": "branch of the pull request; fenced as data where its name is odd",
    "base_ref": "branch that the work starts from; likewise",
    "repository": "short name of the repository",
    "schedule": "name of the schedule",
    "scheduled_for": "nominal time of the run",
    "last_success_at": "when this schedule last succeeded here, or “never”",
    "last_result": "the result of that run, fenced as data",
    "last_commit": "the commit that run worked on, or empty",
}

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_VARIABLE = re.compile(r"\Avar\.([A-Za-z_][A-Za-z0-9_]*)\Z")
variable_name = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def names(template: str) -> Iterator[str]:
    """The placeholders of a template, in their order, as written between the braces."""
    for found in _PLACEHOLDER.finditer(template):
        yield found.group(1).strip()


def variables(template: str) -> list[str]:
    """The variables that a template asks for, by their names."""
    return [variable.group(1) for name in names(template) if (variable := _VARIABLE.match(name))]


def problems(template: str, variables: Collection[str] = ()) -> list[str]:
    """What is wrong with a template, one sentence each; empty when it can be rendered."""
    found: list[str] = []
    for name in names(template):
        variable = _VARIABLE.match(name)
        if variable and variable.group(1) not in variables:
            found.append(
                f"{{{{ {name} }}}}: this schedule has no variable “{variable.group(1)}”. Add it to its variables."
            )
        elif not variable and name not in PLACEHOLDERS:
            found.append(f"{{{{ {name} }}}} is not a placeholder. There are: {', '.join(PLACEHOLDERS)}, var.NAME.")
    return found


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill a template that has no problems. `values` is keyed by placeholder, variables as `var.name`.

    Raises KeyError for a placeholder without a value.
    """
    return _PLACEHOLDER.sub(lambda found: values[found.group(1).strip()], template)
