"""Settings from the environment and `.env`; what can't be understood is refused with its mend."""

import os
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import environ
from django.core.exceptions import ImproperlyConfigured

Default = TypeVar("Default", bool, None)

_NAMED = re.compile(r"(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
_AMOUNT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,2})?")
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})
_DATABASES = ("sqlite", "postgres", "postgresql")
_BROKERS = ("redis", "rediss", "redis+socket", "sentinel")


def load(file: Path) -> None:
    """Put the lines of `file`, when there is one, into the environment; what is set already stays.

    django-environ passes over a line that it can't read. Here that line stops the program: a
    setting that silently does not hold is worse than one that is missing.
    """
    if not file.is_file():
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{file.name} can't be read ({error}): mend or remove it.") from None
    first_seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name, fault = _read_line(line)
        if not fault and name in first_seen:
            fault = f"sets {name} again, after line {first_seen[name]}: keep one of the two."
        if fault:
            raise ImproperlyConfigured(f"{file.name}, line {number}: {fault}")
        if name:
            first_seen[name] = number
    environ.Env.read_env(file)


def _read_line(line: str) -> tuple[str, str]:
    """The name that a line sets, or "", and what is wrong with it, or ""."""
    if not line.strip() or line.startswith("#"):
        return "", "" if not line or line.startswith("#") else "holds only blanks: empty it."
    match = _NAMED.fullmatch(line)
    if match is None:
        return "", "is not NAME=value: write it without blanks around =, or put # first."
    name, value = match["name"], match["value"]
    if value != value.strip():
        return name, f"has blanks around the value of {name}: remove them, or quote the value."
    if value[:1] in {'"', "'"} and (len(value) < 2 or value[-1] != value[0]):
        return name, f"opens a quote that does not close: end the value of {name} with {value[0]}"
    if value[:1] not in {'"', "'"} and " #" in value:
        return name, f"has a comment after the value of {name}: move it to a line of its own."
    return name, ""


def text(name: str, default: str = "") -> str:
    """The variable, or `default` when it is not set or empty."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: Default) -> bool | Default:
    value = text(name).lower()
    if not value:
        return default
    if value not in _YES | _NO:
        raise ImproperlyConfigured(f"{name} is {value!r}: give true or false.")
    return value in _YES


def number(name: str, *, default: int, least: int, most: int = 1_000_000) -> int:
    value = text(name, str(default))
    if not value.isdecimal() or not least <= int(value) <= most:
        raise ImproperlyConfigured(f"{name} is {value!r}: give a whole number from {least} to {most}.")
    return int(value)


def amount(name: str, *, default: str) -> Decimal:
    """US dollars, in cents, above zero."""
    value = text(name, default)
    if not _AMOUNT.fullmatch(value) or not Decimal(value):
        raise ImproperlyConfigured(f"{name} is {value!r}: give US dollars, such as 0.50.")
    return Decimal(value)


def choice(name: str, *, default: str, of: Iterable[str]) -> str:
    value, allowed = text(name, default), sorted(of)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}: give one of {', '.join(allowed)}.")
    return value


def zone(name: str, *, default: str) -> str:
    """A time zone."""
    value = text(name, default)
    if value not in available_timezones():
        raise ImproperlyConfigured(f"{name} is {value!r}: give a time zone such as UTC or Europe/Paris.")
    return value


def listed(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """Values between commas."""
    return [part.strip() for part in text(name, ",".join(default)).split(",") if part.strip()]


def folders(name: str) -> list[str]:
    """Absolute paths between commas."""
    found = listed(name)
    for path in found:
        if not path.startswith("/") or ".." in path.split("/"):
            raise ImproperlyConfigured(f"{name} has {path!r}: give absolute paths, between commas.")
    return found


def secrets(prefix: str, *, shortest: int) -> dict[str, str]:
    """The variables whose names start with `prefix`, without it. What is empty is not set."""
    found = {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and name != prefix and value
    }
    for name, value in found.items():
        if len(value.strip()) < shortest:
            raise ImproperlyConfigured(
                f"{prefix}{name} is shorter than {shortest} characters, so it could not be hidden where a session "
                "says it: give a longer one."
            )
    return found


def keys(name: str, *, shortest: int) -> list[str]:
    """Keys between commas; none when it is not set."""
    found = listed(name)
    if any(len(key) < shortest for key in found):
        raise ImproperlyConfigured(f"{name} holds a key that is too short: give {shortest} random characters or more.")
    return found


def database(name: str, *, default: str, relative_to: Path) -> dict[str, object]:
    """A URL as Django's DATABASES entry: `sqlite:///file` or `postgresql://user:secret@host/name`."""
    url = text(name, default)
    if "://" not in url or urlsplit(url).scheme not in _DATABASES:
        raise ImproperlyConfigured(
            f"{name} is not one Rota can use: give sqlite:///file or postgresql://user:password@host/name."
        )
    entry: dict[str, object] = environ.Env.db_url_config(url)
    if not entry["NAME"]:
        raise ImproperlyConfigured(f"{name} names no database: end it with /name.")
    if entry["ENGINE"] == "django.db.backends.sqlite3":
        entry["NAME"] = str(relative_to / str(entry["NAME"]))
    return entry


def broker(name: str) -> str:
    """The URL of a Redis or Valkey, or "" when it is not set."""
    url = text(name)
    if url and urlsplit(url).scheme not in _BROKERS:
        raise ImproperlyConfigured(
            f"{name} is not one Rota can use: give redis://host:6379/0, rediss://… or redis+socket:///path."
        )
    return url
