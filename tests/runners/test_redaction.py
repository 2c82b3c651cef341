"""How secrets are hidden in what a session says and leaves."""

from __future__ import annotations

import base64
import io
import json
import re
import textwrap
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.recording import OUT, Recorder, Stream
from runners.redaction import SHORTEST_SECRET, Redactor

SECRET = 'p4ss/w+rd "é" & more'
LONG = 'p4ss/w+rd"é"&more' * 5
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\nkQ==\n-----END KEY-----\n"


def encodings(secret: str) -> dict[str, str]:
    data = secret.encode()
    return {
        "plain": secret,
        "json": json.dumps(secret)[1:-1],
        "json, not escaped": json.dumps(secret, ensure_ascii=False)[1:-1],
        "json, slashes too": json.dumps(secret)[1:-1].replace("/", "\\/"),
        "json in json": json.dumps(json.dumps(secret))[3:-3],
        "hex": data.hex(),
        "HEX": data.hex().upper(),
        "url": quote(secret, safe=""),
        "url path": quote(secret),
        "url whole": quote(secret, safe=";/?:@&=+$,#!~*'()"),
        "form": quote_plus(secret),
        "url, small": re.sub("%..", lambda code: code[0].lower(), quote(secret, safe="")),
        "url, all of it": "".join(f"%{byte:02X}" for byte in data),
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

    @pytest.mark.parametrize(
        ("name", "line_end"),
        [
            (name, line_end)
            for name, written in encodings(LONG).items()
            for line_end in ["\n", "\r\n", "\n    ", "\\n", "\\\\r\\\\n"]
            if not ("\\" in line_end and "\\" in written)  # JSON in JSON doubles these backslashes too
        ],
    )
    def test_hides_it_where_lines_end_within(self, name: str, line_end: str) -> None:
        written = encodings(LONG)[name]
        lines = [written[at : at + 20] for at in range(0, len(written), 20)]
        hidden = Redactor([LONG]).text(f"before{line_end}{line_end.join(lines)}{line_end}after")
        assert re.sub(r"\[redacted\]|\\+[rn]|[\s=]", "", hidden) == "beforeafter"
        assert hidden.count(line_end) == len(lines) + 1, "lines stay lines"

    @given(before=st.binary(max_size=9), after=st.binary(max_size=9))
    def test_hides_it_in_base64_wherever_it_begins(self, before: bytes, after: bytes) -> None:
        secret = "hunter2-hunter3"
        hidden = Redactor([secret]).text(base64.b64encode(before + secret.encode() + after).decode())
        assert "[redacted]" in hidden
        assert base64.b64encode(secret.encode()[3:9]).decode() not in hidden

    @pytest.mark.parametrize(
        "written",
        [
            *("68756E746572322d68756e7465723333", "68 75 6e 74 65 72 32 2d 68 75 6e 74 65 72 33 33"),
            *("68:75:6e:74:65:72:32:2d:68:75:6e:74:65:72:33:33", "6875 6e74 6572 322d 6875 6e74 6572 3333"),
            "".join(f"\\x{byte:02x}" for byte in b"hunter2-hunter33"),
            "".join(f"\\\\x{byte:02X}" for byte in b"hunter2-hunter33"),
        ],
    )
    def test_hides_it_in_hex_in_capitals_and_not_and_apart(self, written: str) -> None:
        hidden = Redactor(["hunter2-hunter33"]).text(f"it is {written}!")
        assert re.fullmatch(r"it is \\{0,2}x?\[redacted\]!", hidden)

    @pytest.mark.parametrize(
        "written",
        [
            *("%68unter2&hunter3%33", "h%75nter2%26hunter33", "hunter2%2" + "6%68%75%6e%74%65%72%33%33"),
            *(r"hunter2\u0026hunter33", r"hunter2\\u0026hunter33", r"\u0068unter2&hunter33"),
        ],
    )
    def test_hides_it_where_single_characters_are_codes(self, written: str) -> None:
        assert Redactor(["hunter2&hunter33"]).text(f"at /?q={written}&p=%20") == "at /?q=[redacted]&p=%20"

    def test_hides_quotes_and_codes_in_one(self) -> None:
        secret = 'hunt"er&2<é>'
        for written in (r"hunt\"er\u00262\u003c\u00e9\u003e", r"hunt\\\"er\\u00262\\u003cé\\u003e"):
            assert Redactor([secret]).text(f'{{"a": "{written}"}}') == '{"a": "[redacted]"}'

    def test_leaves_alone_what_only_looks_like_a_beginning(self) -> None:
        """Hex of letters begins with 6 or 7, and so do many ends of texts, with what may stand between digits after."""
        redactor = Redactor(["hunter2-hunter33"])
        for text in ("at 16:42:06 -------", "h\n\n\n\n\n\n\n", "100 %", "C:\\", "68 : : : :"):
            assert redactor.text(text) == text

    def test_hides_the_longer_one_of_two_that_begin_alike(self) -> None:
        assert Redactor(["secret", "secret-too"]).text("secret-too secret") == "[redacted] [redacted]"

    def test_hides_all_of_two_that_overlap(self) -> None:
        assert Redactor(["abcdefgh", "efghijkl"]).text("abcdefghijkl") == "[redacted]"

    def test_hides_each_line_of_a_key(self) -> None:
        hidden = Redactor([KEY]).text("1: MIIEvQIBADANBgkqhkiG9w0B\n2: AQEFAASCBKcwggSjAgEAAoIB\n")
        assert hidden == "1: [redacted]\n2: [redacted]\n"

    @pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n"])
    def test_hides_a_whole_key_its_short_lines_too(self, line_end: str) -> None:
        hidden = Redactor([KEY]).text(line_end.join(KEY.splitlines()))
        assert hidden == line_end.join(["[redacted]"] * 5)

    @pytest.mark.parametrize("besides", ["100 %\n", "\\u0041\n", "2d 2d\n"])
    def test_keeps_lines_as_many_as_they_are(self, besides: str) -> None:
        for written in (KEY, "\n".join(line.encode().hex(" ") for line in KEY.splitlines()), KEY.encode().hex("\n")):
            hidden = Redactor([KEY]).text(besides + written)
            assert hidden.count("\n") == (besides + written).count("\n")
            assert "MIIE" not in hidden

    def test_finds_words_wherever_a_line_ends_between_them(self) -> None:
        redactor = Redactor(["correct horse battery staple"])
        for text in (
            "correct horse\nbattery staple",
            "correct \\n  horse battery staple",
            "correct  horse battery\tstaple",
        ):
            assert re.sub(r"\[redacted\]|\\n|\s", "", redactor.text(text)) == ""
        assert redactor.text("a correct horse") == "a [redacted]", "it may go on"
        assert redactor.text("a correct horse, and a battery staple") == "a correct horse, and a battery staple"

    def test_knows_lines_that_are_long_enough(self) -> None:
        secret = "user\npassw0rd\n"
        assert Redactor([secret]).text("passw0rd user") == "[redacted] user"
        assert Redactor([secret], shortest_line=16).text("passw0rd user") == "passw0rd user"
        assert Redactor([secret], shortest_line=16).text("user\npassw0rd") == "[redacted]\n[redacted]"

    def test_hides_the_password_of_a_url(self) -> None:
        redactor = Redactor(["postgresql://rota:p%40ssw0rd@db/rota"])
        assert redactor.text("PGPASSWORD=p@ssw0rd or p%40ssw0rd") == "PGPASSWORD=[redacted] or [redacted]"
        assert Redactor(["https://[half:ipv6@x"]).text("half") == "half"

    @pytest.mark.parametrize("secret", ["", "a", "12345", "  a  "])
    def test_leaves_alone_what_stands_in_any_text(self, secret: str) -> None:
        assert Redactor([secret]).text("a 12345 text   a  ") == "a 12345 text   a  "

    def test_takes_bytes_that_are_no_text(self) -> None:
        assert Redactor(["secret"]).data(b"\xff secret \x00") == b"\xff [redacted] \x00"

    def test_takes_text_that_is_no_unicode(self) -> None:
        assert Redactor(["secret"]).text("\udcff secret \ud800") == "\udcff [redacted] \ud800"

    def test_takes_a_secret_that_looks_like_an_end_of_a_line(self) -> None:
        assert Redactor(["C:\\new"]).text("cd C:\\new") == "cd [redacted]"

    def test_takes_a_secret_that_is_a_pattern(self) -> None:
        assert Redactor([".*.*.*"]).text("any text .*.*.*") == "any text [redacted]"

    @pytest.mark.parametrize("mark", ["", "…", " … 4711 bytes", "..."])
    def test_hides_what_is_left_of_a_secret_where_a_text_was_cut(self, mark: str) -> None:
        assert Redactor(["hunter2-hunter3"]).text(f"it is hunter2-h{mark}") == f"it is [redacted]{mark}"
        assert Redactor(["hunter2-hunter3"]).text(f"the hunte{mark}") == f"the hunte{mark}", "that may be anything"


class TestValue:
    def test_keeps_its_shape(self) -> None:
        value = {"a": ["hunter2-x", 1, 2.5, None, True], "hunter2-x": {"n": 12345678, "m": 123}}
        assert Redactor(["hunter2-x", "12345678"]).value(value) == {
            "a": ["[redacted]", 1, 2.5, None, True],
            "[redacted]": {"n": "[redacted]", "m": 123},
        }


class TestLine:
    def test_stays_a_json_object_where_it_was_one(self) -> None:
        line = json.dumps({"type": "x", "tokens": 12345678, "text": "it is 12345678"}).encode()
        assert json.loads(Redactor(["12345678"]).line(line)) == {
            "type": "x",
            "tokens": "[redacted]",
            "text": "it is [redacted]",
        }

    def test_of_text_is_text(self) -> None:
        assert Redactor(["12345678"]).line(b"{12345678") == b"{[redacted]"
        assert Redactor(["12345678"]).line(b"12345678") == b"[redacted]"


class TestRedactedStream:
    @given(
        parts=st.lists(
            st.sampled_from([b"abcdef", b"abcdefgh", b"abc", b"def", b"gh", b"x", b"bcdefg", b"\n", b"\\n", b"\r\n"])
            | st.sampled_from([b" ", b"abc d", b"ef gh", b"%61", b"bc", b"%66", b"\\u0064", b"\\", b"u0065"])
            | st.sampled_from([b"61:62", b"63 64", b"6", b"5 66", b":", b"6162636", b"46566", b"67", b"\\x68"])
        ),
        cuts=st.lists(st.integers(1, 9), min_size=1),
    )
    def test_says_in_chunks_what_it_says_at_once(self, parts: list[bytes], cuts: list[int]) -> None:
        redactor = Redactor(["abcdef", "abcdefgh", "abc def gh"])
        text, stream, said, at, turn = b"".join([*parts, b"!"]), redactor.stream(), b"", 0, 0
        while at < len(text):
            size = cuts[turn % len(cuts)]
            said += stream.feed(text[at : at + size])
            at, turn = at + size, turn + 1
        assert said + stream.flush() == redactor.data(text)

    def test_holds_nothing_back_that_can_be_no_secret(self) -> None:
        stream = Redactor(["abcdef"]).stream()
        assert stream.feed(b"hello ab") == b"hello "
        assert stream.feed(b"c\n!") == b"abc\n!"

    @pytest.mark.no_cover
    def test_holds_no_more_than_it_may_of_a_secret_that_repeats_itself(self) -> None:
        stream = Redactor(["abababab"]).stream()
        said = b"".join(stream.feed(b"ab" * (1 << 18)) for _ in range(6)) + stream.feed(b" fine") + stream.flush()
        assert b"ab" not in said
        assert said.endswith(b" fine")

    @given(cut=st.integers(0, 16), size=st.integers(1, 5))
    def test_hides_the_beginning_of_a_secret_at_its_end(self, cut: int, size: int) -> None:
        secret = b"hunter2-hunter33"
        text, stream = b"it is " + secret[:cut], Redactor([secret.decode()]).stream()
        said = b"".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.flush()
        assert said == (b"it is [redacted]" if cut >= SHORTEST_SECRET else text)

    def test_of_no_secrets_hands_everything_on(self) -> None:
        stream = Redactor([]).stream()
        assert stream.feed(b"abc") + stream.flush() == b"abc"


class TestLog:
    def test_each_of_its_streams_is_followed(self, tmp_path: Path) -> None:
        printed = [
            b"o it is",
            b"e it is hunter2",
            b"o hunter2",
            b"s note",
            b"e -hunt",
            b"o -hunter3",
            b"e er3 fine",
            b"o ",
        ]
        log = tmp_path / "output.log"
        log.write_bytes(b"".join(b"1700000000000 %s\n" % line for line in printed) + b"no record")
        said = [line.removeprefix(b"1700000000000 ") for line in Redactor(["hunter2-hunter3"]).log(log)]
        assert said == [
            *(b"o it is\n", b"e it is [redacted]\n", b"o [redacted]\n", b"s note\n", b"e [redacted]\n"),
            *(b"o [redacted]\n", b"e [redacted] fine\n", b"o \n", b"no record\n"),
        ]

    @pytest.mark.parametrize("written", encodings(LONG).values(), ids=encodings(LONG))
    def test_of_a_secret_that_was_cut_the_beginning_is_hidden(self, tmp_path: Path, written: str) -> None:
        """The shim keeps the beginning of the line that passes its cap, and of one that is too long."""
        begun = written[:30].encode()
        printed = [
            *(b"e fine", b"o it is " + begun, b"s line_cut: 9 more bytes of the line above are not kept.", b"o next"),
            *(b"e and " + begun, b"s truncated: The output passed 99 bytes. The rest is not kept.", b'o {"a": 1}'),
        ]
        log = tmp_path / "output.log"
        log.write_bytes(b"".join(b"1700000000000 %s\n" % line for line in printed))
        said = [line.removeprefix(b"1700000000000 ") for line in Redactor([LONG]).log(log)]
        assert [said[1], said[4]] == [b"o it is [redacted]\n", b"e and [redacted]\n"]
        assert [line for at, line in enumerate(said) if at not in (1, 4)] == [
            line + b"\n" for at, line in enumerate(printed) if at not in (1, 4)
        ]

    def test_what_the_shim_really_cuts_is_hidden(self, tmp_path: Path) -> None:
        secret = "hunter2-" * 8
        for room in range(4, 60, 7):
            path = tmp_path / f"{room}.log"
            recorder, stream = Recorder(str(path), cap=200 + room), Stream(OUT)
            for chunk in (b"x" * 150 + b"\n", secret.encode()[:20], secret.encode()[20:], b"\nmore\n"):
                recorder.feed(stream, chunk)
            recorder.close()
            assert recorder.truncated
            assert b"hunter" not in b"".join(Redactor([secret]).log(path))

    def test_is_the_same_where_there_is_no_secret_in_it(self, tmp_path: Path) -> None:
        log = tmp_path / "output.log"
        log.write_bytes(b"".join(b"1700000000000 %c line %d\n" % ("oe"[n % 2].encode(), n) for n in range(40_000)))
        assert b"".join(Redactor(["hunter2"]).log(log)) == log.read_bytes()


class TestRedactedLines:
    def test_waits_for_the_rest_of_a_secret(self) -> None:
        lines = Redactor(["hunter2-hunter3"]).lines()
        assert lines.feed("it is hunter2") == []
        assert lines.feed("-hunter3, he said") == ["it is [redacted]", "[redacted], he said"]
        assert lines.feed("on") == ["on"]

    def test_waits_no_longer_than_it_may_be_one(self) -> None:
        lines = Redactor(["hunter2-hunter3"]).lines()
        assert lines.feed("the hunt") == []
        assert lines.feed("is over") == ["the hunt", "is over"]
        assert lines.feed("the hunt") == []
        assert lines.flush() == ["the hunt"]

    def test_hides_what_it_has_of_a_secret_when_it_can_not_wait(self) -> None:
        lines = Redactor(["hunter2-hunter3"]).lines()
        assert lines.feed("it is hunt") == []
        assert lines.feed("er2-") == []
        assert lines.flush() == ["it is [redacted]", "[redacted]"]
        assert lines.feed("hunter3, he said") == ["[redacted], he said"]

    def test_remembers_a_beginning_that_was_too_short_to_wait_for(self) -> None:
        lines = Redactor(["hunter2-hunter3"]).lines()
        assert lines.feed("hu") == ["hu"]
        assert lines.feed("nter2-hunter3!") == ["[redacted]!"]

    @given(width=st.integers(4, 60))
    def test_hides_what_is_wrapped(self, width: int) -> None:
        secret = "0123456789abcdefghijklmnopqrstuvwxyz" * 2
        lines = Redactor([secret]).lines()
        wrapped = textwrap.wrap(base64.b64encode(secret.encode()).decode(), width)
        said = [line for part in wrapped for line in lines.feed(part)] + lines.flush()
        assert len(said) == len(wrapped)
        assert set("".join(said).replace("[redacted]", "")) == set()


class TestIsIn:
    def test_finds_a_secret_across_the_blocks_that_are_read(self) -> None:
        redactor = Redactor(["hunter2-hunter3"])
        for before in (0, (1 << 20) - 5, (1 << 20) + 5, 3 << 20):
            assert redactor.is_in(io.BytesIO(b"x" * before + b"hunter2-\nhunter3" + b"x" * 100))
        assert not redactor.is_in(io.BytesIO(b"x" * (1 << 21)))

    def test_reads_nothing_where_nothing_is_looked_for(self) -> None:
        file = io.BytesIO(b"short")
        assert not Redactor(["short"]).is_in(file)
        assert file.tell() == 0
