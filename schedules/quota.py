"""When a model's service lets nobody in, its sessions wait instead of failing one after another.

Two things hold a credential back. A quota that says when it is given anew holds until then, and not longer. And a
circuit breaker opens after three sessions in a row to whom the service was overloaded: for a minute, then for twice as
long each time, half an hour at most. When its time is over one session tries, and its outcome decides.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef

from schedules import agents, pools
from schedules.models import Hold, Incident, Reason, Run, Session

logger = logging.getLogger(__name__)

OVERLOADED = frozenset({Reason.OVERLOADED, Reason.API_ERROR, Reason.RATE_LIMITED})
"""Reasons that speak of the service, and not of the session."""
FAILURES = 3
FIRST_HOLD = timedelta(minutes=1)
LONGEST_HOLD = timedelta(minutes=30)
LONGEST_QUOTA = timedelta(days=8)
_SPREAD = 3.0  # seconds, by the credential's name: those of one service do not come back in one instant


def credential_of(run: Run) -> str:
    """Whose quota the sessions of a run draw on. Empty: nobody's, as of scripts, functions and rehearsals."""
    if run.is_rehearsal:
        return ""
    return agents.credential_of(run.snapshot["runner"], secrets=run.snapshot.get("secrets", ()))


def report(credential: str, *, reason: str, answered: bool, resets_at: datetime | None = None, now: datetime) -> None:
    """What a session's end tells of the service. Call it in the transaction that finishes its row.

    `answered`: the model answered it, whatever came of that. `resets_at`: when the quota it ran into is given anew.
    Without a credential (scripts, rehearsals) it costs nothing; else one UPDATE where all is well.
    """
    if not credential:
        return
    if reason == Reason.RATE_LIMITED and resets_at and resets_at > now:
        # That of one model alone was told of while the session ran.
        if not Hold.objects.filter(credential__startswith=f"{credential}:", until__gte=resets_at).exists():
            hold_until(credential, resets_at, now=now)
    elif reason in OVERLOADED:
        _count_failure(credential, reason, resets_at=resets_at, now=now)
    elif answered:
        _close(credential, now=now)


def answered(credential: str, *, now: datetime) -> None:
    """A model answered a session that still runs: where the circuit was half open, it closes."""
    if credential:
        _close(credential, now=now)


def hold_until(credential: str, resets_at: datetime, *, model: str = "", now: datetime) -> None:
    """A quota is used up, and given anew at `resets_at`. What lies in the past holds nothing.

    `model`: it is that of one model alone, such as opus, and what asks for others is not held.
    """
    if not credential or resets_at <= now:
        return
    until, reason = resets_at, "Its quota is used up."
    if until > now + LONGEST_QUOTA:
        until = now + LONGEST_QUOTA
        reason = f"Its quota is said to be used up for longer than {LONGEST_QUOTA.days} days: tried again after these."
    held = f"{credential}:{model}" if model else credential
    _open(held, until=until + _share(held), reason=reason, failures=0, now=now)


@transaction.atomic
def _count_failure(credential: str, reason: str, *, resets_at: datetime | None, now: datetime) -> None:
    hold, _ = Hold.objects.select_for_update().get_or_create(credential=credential)
    if hold.until and hold.until > now:
        return  # it started before the service was held: that is known already
    failures = hold.failures + 1
    if failures < FAILURES:
        Hold.objects.filter(pk=hold.pk).update(failures=failures, until=None, reason="", since=None)
        if hold.until:
            _recovered(credential, "its quota is given anew", now)
        return
    length = min(FIRST_HOLD * 2 ** min(failures - FAILURES, 10), LONGEST_HOLD)
    past = " The time it gave for that lay in the past." if resets_at else ""
    told = f"{failures} sessions in a row failed: {Reason(reason).label}.{past} One tries again after {_told(length)}."
    _open(credential, until=now + length + _share(credential), reason=told, failures=failures, now=now)


@transaction.atomic
def _open(credential: str, *, until: datetime, reason: str, failures: int, now: datetime) -> None:
    hold, _ = Hold.objects.select_for_update().get_or_create(credential=credential)
    if hold.until and hold.until >= until and not hold.failures:
        return  # by a quota, for as long already
    since = hold.since if hold.until and hold.until > now else now
    Hold.objects.filter(pk=hold.pk).update(until=until, reason=reason, failures=failures, since=since)
    _take_back(credential)
    if Incident.objects.alarm(
        Incident.Kind.PROVIDER_HELD,
        credential,
        message=f"{credential} lets nobody in until {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. {reason}",
        now=now,
    ):
        logger.warning("%s is held: %s", credential, reason, extra={"action": "provider_held"})


def _take_back(held: str) -> None:
    """Who was handed to the workers and is not claimed yet waits again, instead of failing as well."""
    credential, _, model = held.partition(":")
    handed = Session.objects.in_flight().filter(status=Session.Status.QUEUED, credential=credential).order_by("pk")
    asking = list(handed.values_list("pk", "model_asked"))
    Session.objects.release([pk for pk, asked in asking if not model or pools.is_of(model, asked)])


def _close(credential: str, *, now: datetime) -> None:
    """After failures. A quota that is held is left alone: what was answered had begun before."""
    if Hold.objects.filter(credential=credential, failures__gt=0).update(failures=0, until=None, reason="", since=None):
        _recovered(credential, "it answers again", now)


def lift(credential: str, *, by: str, now: datetime) -> bool:
    """A person knows better: let sessions in. False: nothing held them."""
    with transaction.atomic():
        held = Hold.objects.filter(credential=credential).exclude(until=None, failures=0)
        if not held.update(until=None, failures=0, reason="", since=None):
            return False
        _recovered(credential, f"lifted by {by}", now)
    return True


def recover(*, now: datetime) -> int:
    """Quotas that are given anew: upkeep calls it. A circuit that is half open stays so until a session tried."""
    over = Hold.objects.filter(until__lte=now, failures=0)
    recovered = 0
    for credential in list(over.values_list("credential", flat=True)):
        if over.filter(credential=credential).update(until=None, reason="", since=None):
            _recovered(credential, "its quota is given anew", now)
            recovered += 1
    for credential in _unasked(now):
        _recovered(credential, "nobody asks it any more", now)
    return recovered


def _unasked(now: datetime) -> list[str]:
    """Half open for long, and no session is there to try: what the alarm says is not so any more."""
    told = Incident.objects.open().filter(kind=Incident.Kind.PROVIDER_HELD).values("subject")
    half_open = Hold.objects.filter(credential__in=told, until__lte=now - LONGEST_HOLD, failures__gt=0)
    sessions = Session.objects.open().filter(credential=OuterRef("credential"))
    return list(half_open.exclude(Exists(sessions)).values_list("credential", flat=True))


def _recovered(credential: str, why: str, now: datetime) -> None:
    if Incident.objects.recover(Incident.Kind.PROVIDER_HELD, credential, now=now):
        logger.info("%s lets sessions in: %s", credential, why, extra={"action": "provider_recovered"})


def held(credentials: Collection[str] | None = None) -> dict[str, Hold]:
    """By credential, those that are not plainly closed: held, or half open."""
    holds = Hold.objects.exclude(until=None)
    if credentials is not None:
        holds = holds.filter(credential__in=credentials)
    return {hold.credential: hold for hold in holds}


def _share(credential: str) -> timedelta:
    digest = hashlib.sha256(credential.encode()).digest()
    return timedelta(seconds=round(_SPREAD * int.from_bytes(digest[:4]) / 2**32, 1))


def _told(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"
