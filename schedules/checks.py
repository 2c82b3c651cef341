"""Django's system checks: what would make Rota fail later, said at the door. `bin/manage check --deploy` asks them all.

rota.E001  USE_TZ is off            rota.W001  an agent program is missing, too old or tells no version
rota.E002  git is missing or old    rota.W002  the broker does not answer
rota.E003  a time zone is missing   rota.W003  SECRET_KEY is short (production)
rota.E004  a runner can't be loaded rota.W004  no sandbox can be made here
                                    rota.W005  an agent program is older than those that were tried
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from kombu import Connection
from kombu.exceptions import OperationalError

from runners import Runner, load_runner, sandbox_obstacle
from schedules.agents import agents, find_programs, has_key

_OLDEST_GIT = (2, 34)
_SHORTEST_KEY = 32

Apps = Sequence[AppConfig] | None


@register(Tags.compatibility)
def clock_is_aware(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    if settings.USE_TZ:
        return []
    return [Error("USE_TZ is off.", hint="Rota's instants are aware: set USE_TZ = True.", id="rota.E001")]


@register(Tags.compatibility)
def git_is_there(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    wanted = ".".join(map(str, _OLDEST_GIT))
    hint = f"Install git {wanted} or newer where the workers run."
    program = shutil.which("git")
    if program is None:
        return [Error("git is not installed.", hint=hint, id="rota.E002")]
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST_GIT:
        return [Error(f"git is too old: {said.strip() or 'no version'}.", hint=hint, id="rota.E002")]
    return []


@register(Tags.compatibility)
def zones_are_there(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    try:
        ZoneInfo(settings.TIME_ZONE)
        ZoneInfo("Europe/Paris")
    except ZoneInfoNotFoundError as error:
        return [Error(f"{error}.", hint="Install the package tzdata.", id="rota.E003")]
    return []


@register(Tags.compatibility)
def runners_are_there(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for name, dotted_path in settings.ROTA_RUNNERS.items():
        try:
            load_runner(dotted_path)
        except (ImportError, AttributeError, ValueError) as error:
            hint = f"Mend or drop “{name}” in ROTA_RUNNERS."
            found.append(Error(f"The runner {dotted_path} can't be loaded: {error}.", hint=hint, id="rota.E004"))
    return found


@register(Tags.compatibility, deploy=True)
def programs_are_there(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    counted_on = {name for name, runner in agents() if _is_counted_on(name, runner)}
    for name, facts in find_programs().items():
        if name not in counted_on:
            continue
        path = f"set ROTA_{name.upper()}_PROGRAM to its path"
        if "missing" in facts:
            hint = f"Install it where the workers run, or {path}."
            text = f"The agent program of “{name}” is missing: {facts['missing']}"
            found.append(Warning(text, hint=hint, id="rota.W001"))
        elif "remark" in facts:
            hint = f"Update it where the workers run, or install a newer one and {path}. Rehearse a schedule to try it."
            found.append(Warning(facts["remark"], hint=hint, id="rota.W005"))
    return found


def _is_counted_on(name: str, runner: Runner) -> bool:
    """Claude Code comes with Rota; another agent is for those who name its program or have a key for it."""
    return name == "claude" or bool(settings.ROTA_PROGRAMS.get(name)) or has_key(runner)


@register(Tags.compatibility, deploy=True)
def broker_answers(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    try:
        with Connection(settings.CELERY_BROKER_URL) as broker:
            broker.ensure_connection(max_retries=1, timeout=2)
    except (OperationalError, OSError) as error:
        hint = "Start it (bin/up does), or set REDIS_URL. Until then sessions wait."
        return [Warning(f"The broker does not answer: {error}", hint=hint, id="rota.W002")]
    return []


@register(Tags.security, deploy=True)
def sandbox_can_be_made(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    if obstacle := sandbox_obstacle():
        hint = "Needed where workers run whose schedules want a sandbox: their sessions fail without."
        return [Warning(obstacle, hint=hint, id="rota.W004")]
    return []


@register(Tags.security, deploy=True)
def secret_key_is_long(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    if len(settings.SECRET_KEY) >= _SHORTEST_KEY:
        return []
    hint = f"Set SECRET_KEY to {_SHORTEST_KEY} random characters or more."
    return [Warning("SECRET_KEY is short.", hint=hint, id="rota.W003")]
