"""Secrets are put in by many doors, encrypted, and taken out by workers alone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings

from schedules import vault
from schedules.models import Secret, known_secrets
from tests.schedules.factories import make_schedule

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
KEY = "the first key of these tests, long enough"
OTHER_KEY = "another key of these tests, long enough"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----"


@pytest.fixture(autouse=True)
def _keys(settings: Settings) -> None:
    settings.ROTA_SECRETS_KEYS = [KEY]
    settings.ROTA_SECRETS = {}


def put(name: str, value: str) -> bool:
    return vault.put(name, value, by="ada", now=NOW)


@pytest.mark.parametrize("value", ["hunter2-hunter3", PEM, "grüß dich", "  with blanks around  "])
def test_what_goes_in_comes_out_and_is_not_in_the_table(value: str) -> None:
    assert put("TOKEN", value)
    secret = Secret.objects.get()
    assert value not in secret.ciphertext
    assert (secret.name, secret.set_by, secret.set_at) == ("TOKEN", "ada", NOW)
    assert vault.values(["TOKEN"]) == {"TOKEN": value}
    assert value not in f"{secret!r} {secret}"


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    vault.put("TOKEN", "hunter2", by="ada", now=NOW, description="Opens the door")
    first = Secret.objects.get()
    assert not vault.put("TOKEN", "hunter3", by="bob", now=NOW + timedelta(days=1))
    second = Secret.objects.get()
    assert vault.values(["TOKEN"]) == {"TOKEN": "hunter3"}
    assert (second.pk, second.set_by, second.description) == (first.pk, "bob", "Opens the door")
    assert second.updated_at > first.updated_at


@pytest.mark.parametrize(
    ("name", "value", "field", "words"),
    [
        ("A-B", "hunter2", "name", "letters, digits and _"),
        ("1A", "hunter2", "name", "no digit at its beginning"),
        ("A\n", "hunter2", "name", "letters"),
        ("A" * 101, "hunter2", "name", "letters"),
        ("HOME", "hunter2", "name", "HOME can't be set: "),
        ("LD_PRELOAD", "hunter2", "name", "load code from elsewhere"),
        ("TOKEN", "12345", "value", "at least 6 characters"),
        ("TOKEN", "  12345  ", "value", "at least 6 characters"),
        ("TOKEN", "", "value", "at least 6 characters"),
        ("TOKEN", "hunter\0two", "value", "NUL"),
        ("TOKEN", "x" * 131_072, "value", "128 KiB"),
    ],
)
def test_what_can_be_no_secret_is_refused_without_quoting_it(name: str, value: str, field: str, words: str) -> None:
    with pytest.raises(vault.Refused, match=words) as refused:
        put(name, value)
    assert refused.value.field == field
    assert "12345" not in str(refused.value)
    assert "hunter" not in str(refused.value)
    assert not Secret.objects.exists()


def test_the_table_goes_before_the_environment(settings: Settings) -> None:
    settings.ROTA_SECRETS = {"TOKEN": "of the environment", "OTHER": "of the environment too"}
    put("TOKEN", "of the table")
    put("THIRD", "of the table too")
    assert known_secrets() == ["OTHER", "THIRD", "TOKEN"]
    assert vault.values(["TOKEN", "OTHER"]) == {"TOKEN": "of the table", "OTHER": "of the environment too"}


def test_what_nobody_has_set_is_told_with_its_mend() -> None:
    assert vault.missing(["TOKEN", "OTHER"]) == ["TOKEN", "OTHER"]
    with pytest.raises(vault.Missing, match=r"TOKEN, OTHER: not set\. .*bin/manage secret set TOKEN"):
        vault.values(["TOKEN", "OTHER"])
    assert vault.values([]) == {}


def test_without_its_key_a_secret_is_lost_and_that_is_told_with_its_mend(settings: Settings) -> None:
    put("TOKEN", "hunter2")
    settings.ROTA_SECRETS_KEYS = [OTHER_KEY]
    with pytest.raises(vault.Unreadable, match=r"TOKEN: can't be decrypted.* ROTA_SECRETS_KEY .*secret set TOKEN"):
        vault.values(["TOKEN"])
    assert vault.unreadable() == ["TOKEN"]
    assert vault.missing(["TOKEN"]) == []


def test_keys_are_changed_one_after_the_other(settings: Settings) -> None:
    put("TOKEN", "hunter2")
    put("OTHER", "hunter3")
    settings.ROTA_SECRETS_KEYS = [OTHER_KEY, KEY]
    assert vault.values(["TOKEN"]) == {"TOKEN": "hunter2"}
    assert vault.rotate() == 2
    settings.ROTA_SECRETS_KEYS = [OTHER_KEY]
    assert vault.values(["TOKEN", "OTHER"]) == {"TOKEN": "hunter2", "OTHER": "hunter3"}


def test_nothing_is_rotated_while_one_can_not_be_read(settings: Settings) -> None:
    put("LOST", "hunter2")
    settings.ROTA_SECRETS_KEYS = [OTHER_KEY]
    put("TOKEN", "hunter3")
    before = dict(Secret.objects.values_list("name", "ciphertext"))
    with pytest.raises(vault.Unreadable, match="LOST"):
        vault.rotate()
    assert dict(Secret.objects.values_list("name", "ciphertext")) == before


def test_one_that_a_schedule_asks_for_is_not_deleted() -> None:
    put("TOKEN", "hunter2")
    for name in ("b", "a", "c", "d", "e", "f"):
        make_schedule(name, now=NOW, secrets=["TOKEN"])
    make_schedule("other", now=NOW, secrets=["TOKEN_2"])
    assert vault.users(["TOKEN", "NONE"]) == {"TOKEN": ["a", "b", "c", "d", "e", "f"], "NONE": []}
    with pytest.raises(vault.InUse, match="asked for by a, b, c, d, e and 1 more"):
        vault.delete("TOKEN", by="ada")
    assert Secret.objects.exists()


def test_delete() -> None:
    put("TOKEN", "hunter2")
    assert vault.delete("TOKEN", by="ada")
    assert not vault.delete("TOKEN", by="ada")


def test_a_row_without_a_value_is_none() -> None:
    with pytest.raises(IntegrityError, match="secret_has_name_and_value"), transaction.atomic():
        Secret.objects.create(name="TOKEN", ciphertext="", set_at=NOW)


def test_what_a_session_was_given_is_sealed(settings: Settings) -> None:
    sealed = vault.seal({"TOKEN": "hunter2"})
    assert b"hunter2" not in sealed
    assert b"TOKEN" not in sealed
    assert vault.unseal(sealed) == {"TOKEN": "hunter2"}
    settings.ROTA_SECRETS_KEYS = [OTHER_KEY]
    with pytest.raises(vault.Unreadable, match="can't be decrypted here any more"):
        vault.unseal(sealed)


def test_no_session_may_tell_rotas_own_secrets(settings: Settings) -> None:
    settings.SECRET_KEY = "the key that signs cookies"
    settings.ROTA_SECRETS = {"NAME": "short", "ELSE": "somebody else's token"}
    settings.ROTA_CREDENTIALS = {
        "ANTHROPIC_API_KEY": "sk-ant-0123456789",
        "ANTHROPIC_AUTH_TOKEN": "",
        "ANTHROPIC_BASE_URL": "https://models.example.com",
        "OPENAI_BASE_URL": "https://ada:hunter2-hunter3@models.example.com",
    }
    settings.CELERY_BROKER_URL = "redis://:br%6Fker-password@db/0"
    hidden = vault.hidden({"TOKEN": "given-to-it", "ANTHROPIC_BASE_URL": "https://models.example.com"})
    assert hidden == {
        "SECRET_KEY": "the key that signs cookies",
        "ROTA_SECRETS_KEY 1": KEY,
        "REDIS_URL": "broker-password",
        "ANTHROPIC_API_KEY": "sk-ant-0123456789",
        "OPENAI_BASE_URL": "https://ada:hunter2-hunter3@models.example.com",
        "ROTA_SECRET_ELSE": "somebody else's token",
        "TOKEN": "given-to-it",
    }


def test_the_log_tells_who_and_never_what(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        put("TOKEN", "hunter2-hunter3")
        vault.values(["TOKEN"])
        vault.delete("TOKEN", by="bob")
    assert [getattr(record, "action", "") for record in caplog.records if record.name == "schedules.vault"] == [
        "secret_set",
        "secret_deleted",
    ]
    assert "TOKEN was set by ada" in caplog.text
    assert "hunter2" not in caplog.text
