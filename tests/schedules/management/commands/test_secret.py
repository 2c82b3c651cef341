"""`secret`: set, list, delete, rotate. No value is an argument, and none is printed."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError
from pytest_django import Settings

from schedules import vault
from schedules.models import Secret
from tests.schedules.factories import make_schedule
from tests.schedules.management.running import Ended, run
from tests.schedules.management.terminal import OnTerminal

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)
VALUE = "canary-47110815"


@pytest.fixture(autouse=True)
def _environment(settings: Settings) -> None:
    settings.ROTA_SECRETS = {"FROM_THE_SHELL": "canary-of-the-shell"}


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def put(name: str = "TOKEN") -> None:
    vault.put(name, VALUE, by="ada", now=NOW, description="Opens the door")


def secret(*arguments: str) -> Ended:
    ended = run("secret", *arguments)
    assert "canary" not in ended.out + ended.err
    return ended


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"canary-47110815\n", "canary-47110815"),
        (b"canary-47110815", "canary-47110815"),
        (b"canary\r\nof lines\r\n\r\n", "canary\nof lines\n"),
        (" canary-ü ".encode(), " canary-ü "),
    ],
)
def test_the_value_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, value: str) -> None:
    piped(monkeypatch, data)
    ended = secret("set", "TOKEN", "--description", "Opens the door")
    assert (ended.code, ended.err) == (0, "TOKEN is set.\n")
    assert vault.values(["TOKEN"]) == {"TOKEN": value}
    row = Secret.objects.get()
    assert row.set_by.endswith("(command line)")
    assert row.description == "Opens the door"

    piped(monkeypatch, b"another-canary")
    assert secret("set", "TOKEN").err == "TOKEN has a new value.\n"
    assert Secret.objects.get().description == "Opens the door"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("A-B", b"canary-47110815", "A name has letters"),
        ("PATH", b"canary-47110815", "PATH can't be set"),
        ("TOKEN", b"12345\n", "at least 6 characters"),
        ("TOKEN", b"", "at least 6 characters"),
        ("TOKEN", b"canary\xff", "not UTF-8"),
        ("TOKEN", b"canary" * 30_000, "128 KiB"),
    ],
)
def test_what_can_be_no_secret_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, words: str) -> None:
    piped(monkeypatch, data)
    ended = secret("set", name)
    assert ended.code == 2
    assert words in ended.err
    assert not Secret.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("typed", "code"), [(f"{VALUE}\n", 0), ("\x04", 130)])
def test_on_a_terminal_it_asks_and_does_not_show_what_is_typed(typed: str, code: int) -> None:
    with OnTerminal("secret", "set", "TOKEN") as terminal:
        terminal.shows("Value of TOKEN (it is not shown): ")
        terminal.types(typed)
        assert terminal.ends() == code
    assert VALUE not in terminal.screen
    assert Secret.objects.exists() == (code == 0)


def test_a_value_is_no_argument() -> None:
    with pytest.raises(CommandError, match="unrecognized arguments"):
        run("secret", "set", "TOKEN", VALUE)


def test_the_list_shows_everything_but_the_values(settings: Settings) -> None:
    put()
    settings.ROTA_SECRETS_KEYS = ["another key that is long enough, too"]
    put("READABLE")
    make_schedule("deploy", now=NOW, secrets=["TOKEN", "FROM_THE_SHELL"])
    lines = secret("list").out.splitlines()
    assert lines[0].split() == ["name", "kept", "in", "set", "by", "asked", "for", "by", "description"]
    assert lines[1].split() == ["FROM_THE_SHELL", "environment", "deploy"]
    assert lines[2].startswith("READABLE        table")
    assert "TOKEN           table, can't be decrypted here" in lines[3]
    assert "ada" in lines[3]
    assert lines[3].split("  ")[-1] == "Opens the door"
    assert " deploy " in lines[3]
    told = {entry["name"]: entry for entry in json.loads(secret("list", "--json").out)}
    assert told["TOKEN"] == {
        "name": "TOKEN",
        "kept_in": "table",
        "description": "Opens the door",
        "set_at": NOW.isoformat(),
        "set_by": "ada",
        "is_readable": False,
        "schedules": ["deploy"],
    }
    assert told["FROM_THE_SHELL"]["kept_in"] == "environment"


def test_an_empty_list_says_how_to_fill_it(settings: Settings) -> None:
    settings.ROTA_SECRETS = {}
    assert secret("list").err == "There is no secret yet: bin/manage secret set NAME.\n"


def test_one_that_is_asked_for_is_not_deleted() -> None:
    put()
    make_schedule("deploy", now=NOW, secrets=["TOKEN"])
    ended = secret("delete", "TOKEN")
    assert (ended.code, ended.err) == (
        4,
        "TOKEN is asked for by deploy. Take it out of these schedules first.\n",
    )
    assert Secret.objects.exists()


def test_delete() -> None:
    put()
    assert secret("delete", "TOKEM").err == "There is no secret “TOKEM” in the table. Did you mean TOKEN?\n"
    assert secret("delete", "XYZ").err.endswith("bin/manage secret list shows those there are.\n")
    assert secret("delete", "TOKEN").err == "TOKEN is deleted.\n"
    ended = secret("delete", "TOKEN")
    assert (ended.code, ended.err) == (3, "There is no secret “TOKEN” in the table. The table has none.\n")


def test_rotate(settings: Settings) -> None:
    put()
    old = settings.ROTA_SECRETS_KEYS
    settings.ROTA_SECRETS_KEYS = ["another key that is long enough, too", *old]
    assert secret("rotate").err == "1 secret encrypted with the first key.\n"
    settings.ROTA_SECRETS_KEYS = old
    ended = secret("rotate")
    assert ended.code == 1
    assert "TOKEN: can't be decrypted" in ended.err
