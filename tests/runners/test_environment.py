"""What a session's process sees, and how its secrets are hidden in what it says."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.base import OptionsInvalid
from runners.environment import PATH, Redactor, environment_problems, session_environment

SECRET = 'p4ss/w+rd "é" & more'


class TestSessionEnvironment:
    def test_is_the_same_whatever_the_worker_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = session_environment(home=Path("/s/home"), extra={})
        monkeypatch.setenv("CANARY", "of the worker")
        monkeypatch.setenv("PATH", "/of/the/worker")
        monkeypatch.setenv("LANG", "tlh_KX")
        assert session_environment(home=Path("/s/home"), extra={}) == before
        assert before["PATH"] == PATH
        assert before["HOME"] == "/s/home"
        assert before["TMPDIR"] == "/s/home/tmp"
        assert before["CI"] == "1"

    def test_takes_what_the_schedule_names_also_in_place_of_ours(self) -> None:
        made = session_environment(home=Path("/h"), extra={"TZ": "Europe/Paris", "TOKEN": "x"}, path="/opt/bin")
        assert (made["TZ"], made["TOKEN"], made["PATH"]) == ("Europe/Paris", "x", "/opt/bin")

    @pytest.mark.parametrize("name", ["HOME", "PATH", "TMPDIR", "ROTA_SESSION", "LD_PRELOAD", "LD_LIBRARY_PATH"])
    def test_refuses_what_would_undo_the_isolation_and_says_why(self, name: str) -> None:
        with pytest.raises(OptionsInvalid, match=f"{name} can't be set: ") as refusal:
            session_environment(home=Path("/h"), extra={"FINE": "x", name: "x"})
        assert set(refusal.value.problems) == {"environment"}


class TestEnvironmentProblems:
    def test_none_with_ordinary_variables(self) -> None:
        assert environment_problems({"A": "", "_b1": "ü", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}) == {}

    @pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", "A\n", "A B"])
    def test_a_name_that_is_none(self, name: str) -> None:
        assert set(environment_problems({name: "x"})) == {name}

    @pytest.mark.parametrize(("value", "why"), [("a\0b", "NUL"), ("x" * 131_072, "128 KiB")])
    def test_a_value_that_no_program_can_be_given(self, value: str, why: str) -> None:
        assert why in environment_problems({"A": value})["A"]


def encodings(secret: str) -> dict[str, str]:
    data = secret.encode()
    return {
        "plain": secret,
        "json": json.dumps(secret)[1:-1],
        "json, not escaped": json.dumps(secret, ensure_ascii=False)[1:-1],
        "hex": data.hex(),
        "HEX": data.hex().upper(),
        "url": quote(secret, safe=""),
        "url path": quote(secret),
        "form": quote_plus(secret),
        "url, small": re.sub("%..", lambda code: code[0].lower(), quote(secret, safe="")),
        "base64": base64.b64encode(data).decode(),
        "base64url": base64.urlsafe_b64encode(data).decode(),
    }


class TestRedactor:
    @pytest.mark.parametrize("name", encodings(SECRET))
    def test_hides_a_secret_however_it_is_written(self, name: str) -> None:
        written = encodings(SECRET)[name]
        hidden = Redactor([SECRET]).text(f"before {written} after")
        assert written not in hidden
        assert hidden.startswith("before [redacted]")
        assert hidden.endswith(" after")
        assert Redactor([SECRET]).data(f"before {written} after".encode()) == hidden.encode()

    @given(before=st.binary(max_size=9), after=st.binary(max_size=9))
    def test_hides_it_in_base64_wherever_it_begins(self, before: bytes, after: bytes) -> None:
        secret = "hunter2-hunter3"
        hidden = Redactor([secret]).text(base64.b64encode(before + secret.encode() + after).decode())
        assert "[redacted]" in hidden
        assert base64.b64encode(secret.encode()[3:9]).decode() not in hidden

    def test_hides_the_longer_one_of_two_that_begin_alike(self) -> None:
        assert Redactor(["secret", "secret-too"]).text("secret-too secret") == "[redacted] [redacted]"

    def test_hides_each_long_line_of_a_key(self) -> None:
        key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n"
        hidden = Redactor([key]).text("1: MIIEvQIBADANBgkqhkiG9w0B\n2: AQEFAASCBKcwggSjAgEAAoIB\n")
        assert hidden == "1: [redacted]\n2: [redacted]\n"

    @pytest.mark.parametrize("secret", ["", "a", "12345", "  a  "])
    def test_leaves_alone_what_stands_in_any_text(self, secret: str) -> None:
        assert Redactor([secret]).text("a 12345 text   a  ") == "a 12345 text   a  "

    def test_takes_bytes_that_are_no_text(self) -> None:
        assert Redactor(["secret"]).data(b"\xff secret \x00") == b"\xff [redacted] \x00"

    def test_takes_a_secret_that_is_a_pattern(self) -> None:
        assert Redactor([".*.*.*"]).text("any text .*.*.*") == "any text [redacted]"


class TestRedactedStream:
    @given(
        parts=st.lists(st.sampled_from([b"abcdef", b"abcdefgh", b"abc", b"def", b"gh", b"x", b"bcdefg", b"\n"])),
        cuts=st.lists(st.integers(1, 7), min_size=1),
    )
    def test_says_in_chunks_what_it_says_at_once(self, parts: list[bytes], cuts: list[int]) -> None:
        redactor = Redactor(["abcdef", "abcdefgh"])
        text, stream, said, at, turn = b"".join(parts), redactor.stream(), b"", 0, 0
        while at < len(text):
            size = cuts[turn % len(cuts)]
            said += stream.feed(text[at : at + size])
            at, turn = at + size, turn + 1
        assert said + stream.flush() == redactor.data(text)

    def test_holds_nothing_back_that_can_be_no_secret(self) -> None:
        stream = Redactor(["abcdef"]).stream()
        assert stream.feed(b"hello ab") == b"hello "
        assert stream.feed(b"c\n") == b"abc\n"

    def test_of_no_secrets_hands_everything_on(self) -> None:
        stream = Redactor([]).stream()
        assert stream.feed(b"abc") + stream.flush() == b"abc"
