"""Which named limits a session is in: those that its schedule names, those of its provider, those of its model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from django.db.models import Exists, OuterRef, Q

from schedules import agents
from schedules.models import Pool, Schedule, Session

_Named = Schedule.pools.through


def is_of(pattern: str, model: str) -> bool:
    """Whether the model that is asked for is one of a pool's: `*` stands for any text.

    An alias is taken for every model that it may mean: `opus` is one of `claude-opus-*`, and `claude-opus-4-5` one of
    `opus`. Rather in a pool too many than beside a limit.
    """
    pattern, model = pattern.strip().lower(), model.strip().lower()
    if not pattern or not model:
        return False
    return _compiled(pattern).fullmatch(model) is not None or _is_alias(pattern, model) or _is_alias(model, pattern)


def _is_alias(alias: str, name: str) -> bool:
    return alias.isalpha() and alias != "claude" and alias in re.split(r"[-.*]", name)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))


def memberships(schedules: Collection[int]) -> dict[int, list[int]]:
    """Schedule → the pools that it names. One query."""
    named: dict[int, list[int]] = {}
    for schedule, pool in _Named.objects.filter(schedule__in=schedules).values_list("schedule_id", "pool_id"):
        named.setdefault(schedule, []).append(pool)
    return named


def pools_of(
    pools: Sequence[Pool], *, named: Collection[int], credential: str, model: str, is_rehearsal: bool
) -> Iterator[Pool]:
    """Those of `pools` that a session is in. `named`: by its schedule. A rehearsal asks neither provider nor model."""
    provider = credential.partition("/")[0]
    for pool in pools:
        if (
            pool.pk in named
            or (pool.provider and pool.provider == provider)
            or (pool.model and not is_rehearsal and is_of(pool.model, model))
        ):
            yield pool


def of_schedule(schedule: Schedule, *, named: Collection[Pool]) -> list[Pool]:
    """All that its sessions are in, but for rehearsals: those that it names, and those of its provider and model."""
    others = Pool.objects.exclude(provider="", model="").exclude(pk__in=[pool.pk for pool in named])
    return [*named, *(pool for pool in others if _is_in(schedule, pool))]


def too_wide_for(pool: Pool) -> list[str]:
    """The names of the schedules of its provider or model whose sessions it could never hold. None where it is shut."""
    wide = Schedule.objects.filter(weight__gt=pool.places).order_by("name") if pool.places else ()
    return [schedule.name for schedule in wide if _is_in(schedule, pool)]


def _is_in(schedule: Schedule, pool: Pool) -> bool:
    """Whether or not it names it."""
    credential = agents.credential_of(schedule.runner, secrets=schedule.secrets)
    return any(pools_of([pool], named=(), credential=credential, model=schedule.model, is_rehearsal=False))


def members(pool: Pool) -> Q:
    """The waiting sessions that are in the pool, as a condition."""
    named = Q(Exists(_Named.objects.filter(schedule_id=OuterRef("schedule_id"), pool_id=pool.pk)))
    if pool.provider:
        return named | Q(credential=pool.provider) | Q(credential__startswith=f"{pool.provider}/")
    if pool.model:
        return named | Q(is_rehearsal=False) & asking_for(pool.model)
    return named


def asking_for(pattern: str) -> Q:
    """The waiting sessions that ask for a model like this, as a condition."""
    asked = Session.objects.waiting().order_by().values_list("model_asked", flat=True).distinct()
    return Q(model_asked__in=[model for model in asked if is_of(pattern, model)])
