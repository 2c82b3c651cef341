"""The agents that can be chosen: which program each has on this machine, and whether it works or is rehearsed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.conf import settings

from runners import ProgramMissing, Runner, load_runner

logger = logging.getLogger(__name__)

Programs = dict[str, dict[str, str]]
"""Runner → `version` and `path` of its program, and perhaps a `remark`; or why it is `missing`."""


def agents() -> Iterator[tuple[str, Runner]]:
    """Name and runner, as in the settings."""
    for name in settings.ROTA_RUNNERS:
        if runner := _agent(name):
            yield name, runner


def _agent(name: str) -> Runner | None:
    """None for what is no agent, or can't be loaded: a system check tells of that."""
    try:
        runner = load_runner(settings.ROTA_RUNNERS[name])
    except (KeyError, ImportError, AttributeError, ValueError):
        return None
    return runner if runner.is_agent else None


def keys_of(runner: Runner) -> list[str]:
    """Names of the credentials that let its program in, the one to name to people first."""
    return [name for name in runner.credentials if not name.endswith("_BASE_URL")]


def has_key(runner: Runner) -> bool:
    return any(settings.ROTA_CREDENTIALS.get(name) for name in keys_of(runner))


def providers() -> list[str]:
    """Of all agents."""
    return sorted({runner.provider for _, runner in agents() if runner.provider})


def credential_of(name: str, *, secrets: Collection[str]) -> str:
    """Whose quota an agent's sessions draw on: its provider's, or that of one of these secrets that lets it in.

    Empty for what is no agent, and for an agent whose provider is not known.
    """
    runner = _agent(name)
    if runner is None or not runner.provider:
        return ""
    own = next((key for key in keys_of(runner) if key in secrets), "")
    return f"{runner.provider}/{own}" if own else runner.provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Why all sessions of an agent are rehearsed, and what is to be set so that they work."""

    why: str
    mend: str


_BY_WISH = Rehearsed(why="ROTA_REHEARSE is on", mend="ROTA_REHEARSE=false")


def rehearsed(name: str) -> Rehearsed | None:
    """None: its sessions work, unless one is to be a rehearsal; or it is no agent."""
    runner = _agent(name)
    if runner is None or settings.ROTA_REHEARSE is False:
        return None
    if settings.ROTA_REHEARSE:
        return _BY_WISH
    keys = keys_of(runner)
    return Rehearsed(why="No API key", mend=keys[0]) if keys and not has_key(runner) else None


def rehearsed_agents() -> dict[str, Rehearsed]:
    """By their names, those that are."""
    return {name: reason for name, _ in agents() if (reason := rehearsed(name))}


def find_programs() -> Programs:
    """What each agent's program is on this machine. Asks it for its version where it is new."""
    found: Programs = {}
    for name, runner in agents():
        try:
            program = runner.program(settings.ROTA_PROGRAMS.get(name, ""))
        except ProgramMissing as error:
            found[name] = {"missing": str(error)}
            continue
        if program:
            found[name] = {"version": program.version, "path": program.path}
            if program.remark:
                found[name]["remark"] = program.remark
    return found


def tell_programs(found: Programs, *, before: Programs) -> None:
    """Log what is new of them."""
    for name, facts in found.items():
        if facts == before.get(name):
            continue
        if "missing" in facts:
            logger.info("Agent %s: %s", name, facts["missing"], extra={"action": "program_missing"})
        else:
            version, was = facts["version"], before.get(name, {}).get("version", "")
            change = f", before {was}" if was and was != version else ""
            logger.info("Agent %s: %s%s, %s", name, version, change, facts["path"], extra={"action": "program_found"})
            if "remark" in facts:
                logger.warning("Agent %s: %s", name, facts["remark"], extra={"action": "program_untested"})
