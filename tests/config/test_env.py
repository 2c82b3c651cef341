"""What the environment and `.env` may say, and the sentence for what they may not."""

import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("PORT", ".env, line 1: is not NAME=value"),
        ("# fine\n\nPORT = 8700", ".env, line 3: is not NAME=value: write it without blanks"),
        ("2FAST=1", ".env, line 1: is not NAME=value"),
        ("\ufeffPORT=1", ".env, line 1: is not NAME=value"),
        ("PORT=8700 ", "line 1: has blanks around the value of PORT"),
        ("KEY='half", "line 1: opens a quote that does not close: end the value of KEY with '"),
        ('KEY="', 'line 1: opens a quote that does not close: end the value of KEY with "'),
        ("PORT=8700 # the web", "line 1: has a comment after the value of PORT"),
        ("A=1\nB=2\nA=3", "line 3: sets A again, after line 1: keep one of the two."),
        (" \nA=1", "line 1: holds only blanks: empty it."),
    ],
)
def test_a_line_that_would_not_hold_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / ".env"
    file.write_text(content)
    with pytest.raises(ImproperlyConfigured) as refusal:
        env.load(file)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"KEY=\xff\xfe")
    with pytest.raises(ImproperlyConfigured, match=r"^\.env can't be read .*: mend or remove it\.$"):
        env.load(file)


def test_lines_fill_in_what_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# a remark\n\nexport ROTA_A=one#two\nROTA_B='three four '\nROTA_C=\"five\\nsix\"\n"
        "ROTA_D=\nROTA_E=from the file\n"
    )
    for name in "ABCD":
        # Set, then removed: so that they are removed again after the test.
        monkeypatch.setenv(f"ROTA_{name}", "")
        monkeypatch.delenv(f"ROTA_{name}")
    monkeypatch.setenv("ROTA_E", "from the shell")
    env.load(file)
    assert {name: os.environ[f"ROTA_{name}"] for name in "ABCDE"} == {
        "A": "one#two",
        "B": "three four ",
        "C": "five\\nsix",
        "D": "",
        "E": "from the shell",
    }


def test_no_file_is_fine(tmp_path: Path) -> None:
    env.load(tmp_path / ".env")


@pytest.mark.parametrize(
    ("value", "meant"),
    [("true", True), ("YES", True), ("1", True), ("off", False), ("No", False), ("", True)],
)
def test_a_flag(monkeypatch: pytest.MonkeyPatch, value: str, meant: bool) -> None:
    monkeypatch.setenv("ROTA_FLAG", value)
    assert env.flag("ROTA_FLAG", default=True) is meant


def test_a_flag_that_is_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "ture")
    with pytest.raises(ImproperlyConfigured, match=r"^DEBUG is 'ture': give true or false\.$"):
        env.flag("DEBUG", default=False)


@pytest.mark.parametrize("value", ["0", "-1", "four", "2.5", "65536", "8 000"])
def test_a_number_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PORT", value)
    with pytest.raises(ImproperlyConfigured, match="give a whole number from 1 to 65535"):
        env.number("PORT", default=8700, least=1, most=65535)


def test_a_choice_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVEL", "loud")
    with pytest.raises(ImproperlyConfigured, match=r"^LEVEL is 'loud': give one of high, low\.$"):
        env.choice("LEVEL", default="low", of=["low", "high"])


def test_a_zone_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIME_ZONE", "Mars")
    with pytest.raises(ImproperlyConfigured, match=r"^TIME_ZONE is 'Mars': give a time zone such as UTC"):
        env.zone("TIME_ZONE", default="UTC")


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACES", "/opt/one, /opt/two")
    assert env.folders("PLACES") == ["/opt/one", "/opt/two"]
    for wrong in ("opt", "/opt/../etc"):
        monkeypatch.setenv("PLACES", wrong)
        with pytest.raises(ImproperlyConfigured, match=r"PLACES has .*: give absolute paths"):
            env.folders("PLACES")


def test_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTS", " a.example , ,b.example")
    assert env.listed("HOSTS") == ["a.example", "b.example"]
    assert env.listed("OTHER_HOSTS", default=("c",)) == ["c"]


@pytest.mark.parametrize("url", ["mysql://localhost/rota", "postgres:rota", "rota.sqlite3", "postgresql://localhost"])
def test_a_database_that_can_not_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL "):
        env.database("DATABASE_URL", default="", relative_to=Path("/x"))


def test_a_relative_database_file_lies_below_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///data/rota.sqlite3")
    entry = env.database("DATABASE_URL", default="", relative_to=Path("/project"))
    assert entry["NAME"] == "/project/data/rota.sqlite3"


def test_a_broker_that_is_no_redis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "amqp://localhost")
    with pytest.raises(ImproperlyConfigured, match=r"^REDIS_URL is not one Rota can use: give "):
        env.broker("REDIS_URL")


def test_secrets_are_those_with_the_prefix_that_are_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECRET_TOKEN": " $ecret ", "SECRET_EMPTY": "", "SECRET_": "nameless", "OTHER": "x"}.items():
        monkeypatch.setenv(f"ROTA_TEST_{name}", value)
    assert env.secrets("ROTA_TEST_SECRET_", shortest=6) == {"TOKEN": " $ecret "}
    monkeypatch.setenv("ROTA_TEST_SECRET_PIN", "12345 ")
    with pytest.raises(ImproperlyConfigured, match="ROTA_TEST_SECRET_PIN is shorter than 6 characters") as refusal:
        env.secrets("ROTA_TEST_SECRET_", shortest=6)
    assert "12345" not in str(refusal.value)


def test_keys_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.keys("ROTA_TEST_KEYS", shortest=4) == []
    monkeypatch.setenv("ROTA_TEST_KEYS", "new-one, old-one")
    assert env.keys("ROTA_TEST_KEYS", shortest=4) == ["new-one", "old-one"]
    with pytest.raises(ImproperlyConfigured, match="ROTA_TEST_KEYS holds a key that is too short: give 8") as refusal:
        env.keys("ROTA_TEST_KEYS", shortest=8)
    assert "one" not in str(refusal.value)


@pytest.mark.parametrize(("value", "meant"), [("", "1.00"), ("0.50", "0.50"), ("12", "12")])
def test_an_amount(monkeypatch: pytest.MonkeyPatch, value: str, meant: str) -> None:
    monkeypatch.setenv("MONEY", value)
    assert str(env.amount("MONEY", default="1.00")) == meant


@pytest.mark.parametrize("value", ["0", "0.00", "-1", "1.005", "1e3", "one", "nan", "1,50"])
def test_an_amount_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MONEY", value)
    with pytest.raises(ImproperlyConfigured, match=r"MONEY is .*: give US dollars, such as"):
        env.amount("MONEY", default="1.00")
