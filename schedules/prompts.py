"""A session's prompt: the template of its run, filled with its item, its repository and what came of the last run.

Text that comes from outside (titles, bodies, earlier results) is fenced as data: between two lines that carry a digest
of the text itself, so that nothing inside can close the fence. Names of branches stand as they are where they are
plain, for prompts put them into commands; any other is fenced as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from runners import OptionsInvalid
from schedules import placeholders
from schedules.models import Session

_FENCED = ("title", "body", "last_result")
_NAMES = ("number", "head_ref", "base_ref")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+#-]{0,199}")  # no option, nothing to a shell, no sentence
_NEVER = "never"


def build_prompt(session: Session, last_success: Session | None) -> str:
    """The prompt of a session whose run and repository are loaded; empty where its template is.

    Raises OptionsInvalid: a command may have been edited since its schedules were saved.
    """
    template: str = session.run.snapshot["template"]
    if problems := placeholders.problems(template, session.run.variables):
        raise OptionsInvalid({"prompt": " ".join(problems)})
    return placeholders.render(template, _values(session, last_success))


def session_environment(session: Session, last_success: Session | None) -> dict[str, str]:
    """The same facts as variables, for scripts and functions: ROTA_REPOSITORY, ROTA_SCHEDULED_FOR, ROTA_VAR_<NAME> …"""
    run = session.run
    facts = {
        "ROTA_SCHEDULE": run.snapshot["schedule"],
        "ROTA_RUN": str(run.pk),
        "ROTA_REPOSITORY": session.repository.slug if session.repository else "",
        "ROTA_SCHEDULED_FOR": run.scheduled_for.isoformat(),
        "ROTA_LAST_SUCCESS_AT": _finished(last_success, empty=""),
        "ROTA_LAST_COMMIT": last_success.base_commit if last_success else "",
        "ROTA_BASE_COMMIT": session.base_commit,
    }
    return facts | {f"ROTA_VAR_{name}": str(value) for name, value in run.variables.items()}


def _values(session: Session, last_success: Session | None) -> dict[str, str]:
    run, repository = session.run, session.repository
    values = {name: str(session.item.get(name, "")) for name in placeholders.PLACEHOLDERS}
    values |= {
        "repository": repository.slug if repository else "",
        "schedule": run.snapshot["schedule"],
        "scheduled_for": run.scheduled_for.isoformat(),
        "last_success_at": _finished(last_success, empty=_NEVER),
        "last_result": last_success.result if last_success else "",
        "last_commit": last_success.base_commit if last_success else "",
    }
    values["base_ref"] = values["base_ref"] or (repository.default_branch if repository else "")
    strange = [name for name in _NAMES if not _PLAIN.fullmatch(values[name])]
    values |= {name: fence(values[name], label=name) for name in (*_FENCED, *strange) if values[name]}
    return values | _variables(run.variables)


def _variables(variables: Mapping[str, Any]) -> dict[str, str]:
    return {f"var.{name}": str(value) for name, value in variables.items()}


def _finished(session: Session | None, *, empty: str) -> str:
    return session.finished_at.isoformat() if session and session.finished_at else empty


def fence(text: str, *, label: str) -> str:
    """`text` as data that no instruction in it can leave."""
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"<data {label} {mark}>\n{text}\n</data {label} {mark}>"
