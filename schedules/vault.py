"""The secrets that sessions are given: put in by many doors, taken out by workers alone.

They are encrypted (Fernet: AES-128-CBC and HMAC-SHA256) with the keys of ROTA_SECRETS_KEYS. That keeps them out of
backups, replicas and dumps of the database; it does not keep them from who can read the key as well. Where a name is in
the table and in the environment of the worker (`ROTA_SECRET_<NAME>`), the table's value is given.

No value is ever logged, shown, or part of an error's words.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from runners import SHORTEST_SECRET, environment_problems
from schedules.models import Schedule, Secret, unknown_secrets
from schedules.models.secret import secret_name_is_plain

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

logger = logging.getLogger(__name__)

LONGEST = 128 * 1024  # bytes; what a session can be given is somewhat shorter
_SHORTEST_OWN = 12  # characters of a secret of Rota's own: shorter ones ("postgres") stand in any text


class VaultError(Exception):
    """Root of what is wrong with a secret. The text is for people, and holds no value."""


class Refused(VaultError):
    """This can't be a secret. `field`: `name` or `value`."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class Missing(VaultError):
    """Nobody has set it."""


class Unreadable(VaultError):
    """It was encrypted with a key that is not here."""


class InUse(VaultError):
    """Schedules ask for it."""


@sensitive_variables()
def put(name: str, value: str, *, by: str, now: datetime, description: str | None = None) -> bool:
    """Set a secret, or give it a new value. True when it is new. `description` None: it stays. Raises Refused."""
    check(name, value)
    fields = {"ciphertext": _fernet().encrypt(value.encode()).decode(), "set_by": by[:150], "set_at": now}
    if description is not None:
        fields["description"] = description[:500]
    _, is_new = Secret.objects.update_or_create(name=name, defaults=fields)
    logger.info("Secret %s was set by %s", name, by, extra={"action": "secret_set"})
    return is_new


@sensitive_variables()
def check(name: str, value: str) -> None:
    """Raises Refused when this can't be a secret."""
    check_name(name)
    if len(value.strip()) < SHORTEST_SECRET:
        raise Refused(
            "value",
            f"Give at least {SHORTEST_SECRET} characters: what is shorter could not be hidden where a session says it.",
        )
    if problem := environment_problems({name: value}).get(name):
        raise Refused("value", problem)


def check_name(name: str) -> None:
    """Raises Refused when a session could not be given a variable of this name."""
    try:
        secret_name_is_plain(name)
    except ValidationError as error:
        raise Refused("name", " ".join(error.messages)) from None
    if problem := environment_problems({name: ""}).get(name):
        raise Refused("name", problem)


def without_last_newline(text: str) -> str:
    """A value without the newline that ends a text, as `$(…)` of a shell has it."""
    return text.replace("\r\n", "\n").removesuffix("\n")


def delete(name: str, *, by: str) -> bool:
    """Delete a secret. False when there is none. Raises InUse while a schedule asks for it."""
    with transaction.atomic():
        found = Secret.objects.select_for_update().filter(name=name).first()
        if found is None:
            return False
        if asking := users([name])[name]:
            raise InUse(f"{name} is asked for by {_named(asking)}. Take it out of these schedules first.")
        found.delete()
    logger.info("Secret %s was deleted by %s", name, by, extra={"action": "secret_deleted"})
    return True


def values(names: Iterable[str]) -> dict[str, str]:
    """The values of secrets: the table's, or else the environment's. Raises Missing, Unreadable."""
    names = list(names)
    rows = dict(Secret.objects.filter(name__in=names).values_list("name", "ciphertext")) if names else {}
    if lacking := [name for name in names if name not in rows and name not in settings.ROTA_SECRETS]:
        raise Missing(
            f"{', '.join(lacking)}: not set. Set it in the console, or with bin/manage secret set {lacking[0]}."
        )
    return {name: _opened(name, rows[name]) if name in rows else settings.ROTA_SECRETS[name] for name in names}


def missing(names: Iterable[str]) -> list[str]:
    """Those of `names` that are neither in the table nor in this process's environment."""
    return unknown_secrets(names)


def users(names: Collection[str]) -> dict[str, list[str]]:
    """Secret → names of the schedules that ask for it. Reads every schedule that asks for any."""
    found: dict[str, list[str]] = {name: [] for name in names}
    asking = Schedule.objects.exclude(secrets=[]).order_by("name").values_list("name", "secrets")
    for schedule, secrets in asking.iterator():
        for name in found.keys() & set(secrets):
            found[name].append(schedule)
    return found


def unreadable() -> list[str]:
    """Names of secrets in the table that this process has no key for."""
    return [name for name, ciphertext in _rows() if not _is_readable(ciphertext)]


def rotate() -> int:
    """Encrypt every secret anew, with the first key. Returns how many. Raises Unreadable, and then changes none."""
    if lost := unreadable():
        raise Unreadable(_no_key(_named(lost), lost[0]))
    count = 0
    for name, ciphertext in _rows():
        renewed = _fernet().rotate(ciphertext.encode()).decode()
        # One that was set meanwhile has the first key already.
        count += Secret.objects.filter(name=name, ciphertext=ciphertext).update(ciphertext=renewed)
    return count


def seal(given: Mapping[str, str]) -> bytes:
    """Values as bytes that are of use to nobody without the key: for who takes a session over."""
    return _fernet().encrypt(json.dumps(dict(given)).encode())


def unseal(sealed: bytes) -> dict[str, str]:
    """What was sealed. Raises Unreadable."""
    from cryptography.fernet import InvalidToken

    try:
        given: dict[str, str] = json.loads(_fernet().decrypt(sealed))
    except InvalidToken:
        raise Unreadable(
            "The values of the secrets that this session was given can't be decrypted here any more."
        ) from None
    return given


def hidden(given: Mapping[str, str]) -> dict[str, str]:
    """What a session that was given these values is not to tell, by name: them, and Rota's own secrets."""
    return _own() | {name: value for name, value in given.items() if not _is_address(name, value)}


def _own() -> dict[str, str]:
    """The secrets of Rota's own processes, by the names of their settings. No session is given them."""
    database = settings.DATABASES["default"]
    found = {
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": str(database.get("PASSWORD") or ""),
        "REDIS_URL": _password(settings.CELERY_BROKER_URL),
        **{f"ROTA_SECRETS_KEY {number}": key for number, key in enumerate(settings.ROTA_SECRETS_KEYS, start=1)},
        **{name: value for name, value in settings.ROTA_CREDENTIALS.items() if not _is_address(name, value)},
        **{f"ROTA_SECRET_{name}": value for name, value in settings.ROTA_SECRETS.items()},
    }
    return {name: value for name, value in found.items() if len(value) >= _SHORTEST_OWN}


def _rows() -> list[tuple[str, str]]:
    return list(Secret.objects.order_by("name").values_list("name", "ciphertext"))


def _opened(name: str, ciphertext: str) -> str:
    from cryptography.fernet import InvalidToken

    try:
        return _fernet().decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise Unreadable(_no_key(name, name)) from None


def _is_readable(ciphertext: str) -> bool:
    from cryptography.fernet import InvalidToken

    try:
        _fernet().decrypt(ciphertext.encode())
    except InvalidToken:
        return False
    return True


def _no_key(names: str, first: str) -> str:
    return (
        f"{names}: can't be decrypted, for the key that encrypted it is not here. Add that key to ROTA_SECRETS_KEY "
        f"(bin/up keeps its own in secrets_key, in its var folder), or set it anew: bin/manage secret set {first}."
    )


def _named(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _is_address(name: str, value: str) -> bool:
    """Where an agent finds its model is no secret, unless a password is in it."""
    return name in settings.ROTA_CREDENTIALS and name.endswith("_URL") and "@" not in value


def _password(url: str) -> str:
    return unquote(urlsplit(url).password or "")


def _fernet() -> MultiFernet:
    return _made_of(tuple(settings.ROTA_SECRETS_KEYS))


@lru_cache(maxsize=4)
def _made_of(keys: tuple[str, ...]) -> MultiFernet:
    """Keys of any length and form, each made into one of 256 bits. Beat opens no secret, and so imports 6 MB less."""
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key))) for key in keys])


def _derived(key: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rota: the table of secrets").derive(key.encode())
