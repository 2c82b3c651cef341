"""What a session is given: its secrets, its environment, and who hides them in what it says."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from runners import OptionsInvalid, Redactor, Runner, mcp_variables
from schedules import vault
from schedules.folders import GIVEN, given_to
from schedules.models import Session
from schedules.patience import patiently
from schedules.prompts import session_environment


class Belongings:
    """Of one session. Raises OptionsInvalid where a secret that its schedule names can't be had."""

    def __init__(self, session: Session, runner: Runner, folder: Path) -> None:
        self._session = session
        self._snapshot: dict[str, Any] = session.run.snapshot
        self._folder = folder
        self._given = self._secrets(runner)
        self.hidden = vault.hidden(self._given)  # by their names: nobody is to read them
        self.redactor = Redactor(self.hidden.values()) if self._given else _redactor(*self.hidden.values())

    def seal(self) -> None:
        """For who takes the session over."""
        file = self._folder / GIVEN
        file.touch(mode=0o600)
        file.write_bytes(vault.seal(self._given) if self._given else _sealed_nothing(*settings.ROTA_SECRETS_KEYS))

    def environment(self, last_success: Session | None) -> dict[str, str]:
        facts = session_environment(self._session, last_success)
        lacking: set[str] = set()  # by a rehearsal, whose servers want them: they begin with nothing
        if self._session.is_rehearsal:
            lacking = mcp_variables(self._snapshot["options"].get("mcp_servers")) & set(self._snapshot["secrets"])
        return {**dict.fromkeys(lacking, ""), **facts, **self._snapshot["environment"], **self._given}

    def _secrets(self, runner: Runner) -> dict[str, str]:
        """What the schedule names, and the runner's own credentials unless nobody is to be asked.

        Who takes a session over goes by what it was given, whatever has been set meanwhile.
        """
        try:
            if given := given_to(self._folder):
                return given
            named = patiently(lambda: vault.values(self._names()))
        except vault.VaultError as error:
            raise OptionsInvalid({"secrets": str(error)}) from error
        if self._session.is_rehearsal:
            return named
        known = settings.ROTA_CREDENTIALS
        return {name: known[name] for name in runner.credentials if known.get(name)} | named

    def _names(self) -> list[str]:
        """All that the schedule names; in a rehearsal those that are set, for its report tells the others."""
        names: list[str] = self._snapshot["secrets"]
        unset = vault.missing(names) if self._session.is_rehearsal else []
        return [name for name in names if name not in unset]


@lru_cache(maxsize=1)
def _redactor(*own: str) -> Redactor:
    """That of a session that was given nothing: of Rota's own secrets. To find all their spellings takes its time."""
    return Redactor(own)


@lru_cache(maxsize=1)
def _sealed_nothing(*keys: str) -> bytes:
    """No value at all, under these keys: nobody need make a new seal of that for each session."""
    return vault.seal({})
