"""The log of a session: every line once, whole, in bounded memory, whatever is printed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runners import recording
from runners.recording import ERR, OUT, Recorder, Stream
from runners.result_lines import ResultLine

_AT = b"1700000000000"

# In a process that may not write files of more than 100 bytes.
_UNTIL_FULL = """
import resource, sys
from runners.recording import OUT, Recorder, Stream
log, out = Recorder(sys.argv[1], cap=10**9, clock=lambda: 1700000000000), Stream(OUT)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for _ in range(10):
    log.feed(out, b'x' * 20 + b'\\n')
print(log.broken, end='')
"""


class Log:
    """A recorder with its two streams, and what it wrote."""

    def __init__(self, path: Path, *, cap: int = 10**9, result: ResultLine | None = None) -> None:
        self.path = path
        self.recorder = Recorder(str(path), cap=cap, result=result, clock=lambda: int(_AT))
        self.out, self.err = Stream(OUT), Stream(ERR)

    def print(self, *chunks: bytes, stream: Stream | None = None) -> list[bool]:
        return [self.recorder.feed(stream or self.out, chunk) for chunk in chunks]

    def finish(self) -> None:
        self.recorder.finish(self.out)
        self.recorder.finish(self.err)
        self.recorder.close()

    def records(self) -> list[tuple[bytes, bytes]]:
        lines = self.path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        found = [recording.parse(line) for line in lines]
        return [(record[1], record[2]) for record in found if record]

    def kept(self, code: bytes = OUT) -> list[bytes]:
        return [data for of, data in self.records() if of == code]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "output.log")


def in_chunks(data: bytes, size: int) -> Sequence[bytes]:
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


def test_a_line_is_written_when_its_newline_comes(log: Log) -> None:
    log.print(b"one\ntw")
    assert log.kept() == [b"one"]
    log.print(b"o\n\nth")
    assert log.kept() == [b"one", b"two", b""]
    log.finish()
    assert log.kept() == [b"one", b"two", b"", b"th"]


def test_the_two_streams_do_not_break_each_others_lines(log: Log) -> None:
    log.print(b"on")
    log.print(b"oops\n", stream=log.err)
    log.print(b"e\n")
    assert log.records() == [(ERR, b"oops"), (OUT, b"one")]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(
        st.tuples(st.booleans(), st.binary(max_size=30) | st.sampled_from([b"\n", b"R:", b"R", b":x\n", b"\n\n"])),
        max_size=20,
    ),
    result=st.booleans(),
)
def test_what_is_recorded_is_what_was_printed(tmp_path: Path, chunks: list[tuple[bool, bytes]], result: bool) -> None:
    log = Log(tmp_path / "output.log", result=ResultLine(prefix="R:") if result else None)
    told = 0
    for is_out, chunk in chunks:
        told += sum(log.print(chunk, stream=log.out if is_out else log.err))
    log.finish()
    for wanted, code in ((True, OUT), (False, ERR)):
        printed = b"".join(chunk for is_out, chunk in chunks if is_out is wanted)
        lines = printed.split(b"\n")
        if not lines[-1]:
            lines.pop()
        assert log.kept(code) == lines
    assert log.recorder.printed == sum(len(chunk) for _, chunk in chunks)
    assert not log.recorder.truncated
    if not result:
        assert told == 0


class TestTheCap:
    def test_is_kept_to_the_byte_and_marked_once(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=100)
        log.print(*[b"x" * 9 + b"\n"] * 50)
        log.finish()
        assert log.kept() == [b"x" * 9] * 3 + [b"x" * 5]
        assert log.kept(recording.SHIM) == [b"truncated: The output passed 100 bytes. The rest is not kept."]
        assert log.recorder.truncated
        assert log.recorder.printed == 500

    def test_is_kept_with_many_lines_at_once(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=100)
        log.print(b"\n" * 1000)
        assert log.kept() == [b""] * (100 // len(_AT + b" o \n"))

    def test_lets_no_shorter_line_in_after_the_mark(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=100)
        log.print(b"x" * 500 + b"\n", b"y\n", b"z", b"\n", b"a\nb\nc\n")
        assert len(log.kept()) == 1

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_does_not_apply_to_result_lines(self, tmp_path: Path, size: int) -> None:
        log = Log(tmp_path / "log", cap=50, result=ResultLine(prefix="RESULT "))
        printed = b"x" * 100 + b"\nRESULT one\nRESUL\n\nRESULT two\nR\n"
        told = log.print(*in_chunks(printed, size))
        log.finish()
        assert log.kept()[1:] == [b"RESULT one", b"RESULT two"]
        assert sum(told) >= 1

    def test_does_not_apply_to_a_long_result_known_by_its_type(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=50, result=ResultLine(kind="result"))
        result = b'{"text": "%s", "type": "result"}' % (b"x" * 400_000)
        other = b'{"text": "%s", "type": "other"}' % (b"x" * 400_000)
        told = log.print(b"y" * 60 + b"\n", *in_chunks(other + b"\n" + result + b"\n", 30_000))
        log.finish()
        assert log.kept()[1:] == [result]
        assert sum(told) == 1

    def test_applies_to_result_lines_in_the_end(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=50, result=ResultLine(prefix="R"))
        log.print(*[b"R" * 1_000_000 + b"\n"] * 20)
        assert log.path.stat().st_size < 50 + recording.RESULT_BYTES + 200

    def test_does_not_make_a_result_of_what_is_printed_as_an_error(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=50, result=ResultLine(prefix="R"))
        assert log.print(b"x" * 60 + b"\nRRR\n", stream=log.err) == [False]
        assert len(log.kept(ERR)) == 1


class TestLongLines:
    def test_are_kept_up_to_64_mb_and_said_to_be_cut(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log")
        log.print(*[b"x" * 2**20] * 65, b"\nnext\n")
        kept = log.kept()
        assert [len(line) for line in kept] == [recording.LINE_BYTES, 4]
        assert log.kept(recording.SHIM) == [b"line_cut: 1048576 more bytes of the line above are not kept."]
        assert log.recorder.truncated

    def test_of_both_streams_at_once_stay_apart_and_leave_no_file(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log")
        for _ in range(40):
            log.print(b"o" * 30_000)
            log.print(b"e" * 30_000, stream=log.err)
        log.print(b"\n")
        log.print(b"\n", stream=log.err)
        assert log.records() == [(OUT, b"o" * 1_200_000), (ERR, b"e" * 1_200_000)]
        assert list(tmp_path.iterdir()) == [log.path]

    def test_that_cross_the_cap_are_cut_there(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "log", cap=500_000)
        log.print(*[b"x" * 30_000] * 40, b"\n")
        assert len(log.kept()[0]) == 500_000 - len(_AT + b" o \n")


class TestAFullDisk:
    def test_is_told_and_nothing_is_written_any_more(self, tmp_path: Path) -> None:
        (tmp_path / "log").symlink_to("/dev/full")
        log = Log(tmp_path / "log")
        log.print(b"one\n", b"two\n" * 100, b"x" * 10**6 + b"\n")
        log.finish()
        assert log.recorder.broken == "No space left on device"
        assert log.recorder.truncated

    def test_leaves_only_whole_records(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        command = [sys.executable, "-c", _UNTIL_FULL, str(path)]
        told = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        assert told.stdout == "File too large"
        assert path.read_bytes().split(b"\n") == [_AT + b" o " + b"x" * 20] * 2 + [b""]


@pytest.mark.parametrize("record", [b"", b"x", b"1 o", b"1 x data", b"-1 o data", b"x o data", b"9" * 15 + b" o data"])
def test_what_is_no_record_is_known(record: bytes) -> None:
    assert recording.parse(record) is None


def test_no_time_that_somebody_wrote_is_later_than_a_calendar_goes() -> None:
    assert recording.parse(b"9" * 5000 + b" o data") is None
    latest = recording.parse(b"9" * recording.TIME_DIGITS + b" o data")
    assert latest is not None
    assert datetime.fromtimestamp(latest[0] / 1000, UTC).year == 5138


def test_a_record_may_be_empty_and_may_have_spaces() -> None:
    assert recording.parse(b"17 o ") == (17, b"o", b"")
    assert recording.parse(b"17 e a  b ") == (17, b"e", b"a  b ")
