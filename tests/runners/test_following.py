"""Reading what a session printed: whole lines, from an offset on, of logs that a test writes and of real sessions."""

from __future__ import annotations

from pathlib import Path

from runners import following
from tests.runners.held import hold_python


def write_log(folder: Path, *records: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "output.log").write_bytes(b"".join(records))


class TestReadLines:
    def test_gives_whole_records_only(self, tmp_path: Path) -> None:
        write_log(tmp_path, b"1700000000000 o one\n", b"1700000000001 e tw")
        lines, offset = following.read_lines(tmp_path, 0)
        assert [(line.at_ms, line.stream, line.data) for line in lines] == [(1700000000000, "out", b"one")]
        with (tmp_path / "output.log").open("ab") as log:
            log.write(b"o\n")
        lines, offset = following.read_lines(tmp_path, offset)
        assert [(line.stream, line.data) for line in lines] == [("err", b"two")]
        assert following.read_lines(tmp_path, offset) == ([], offset)

    def test_reads_a_little_at_a_time(self, tmp_path: Path) -> None:
        write_log(tmp_path, *(b"1700000000000 o %d\n" % number for number in range(1000)))
        offset, seen = 0, []
        while True:
            lines, offset = following.read_lines(tmp_path, offset, max_bytes=100)
            if not lines:
                break
            assert len(lines) <= 5
            seen += [int(line.data) for line in lines]
        assert seen == list(range(1000))

    def test_hands_over_the_beginning_of_a_line_beyond_all_bounds(self, tmp_path: Path) -> None:
        write_log(tmp_path, b"1700000000000 o ", b"x" * 5000, b"\n", b"1700000000000 o next\n")
        lines, offset = following.read_lines(tmp_path, 0, max_bytes=100, line_bytes=116)
        assert [line.data for line in lines] == [b"x" * 100 + b" [4900 more bytes of this line]"]
        assert [line.data for line in following.read_lines(tmp_path, offset)[0]] == [b"next"]

    def test_waits_for_the_end_of_a_long_line(self, tmp_path: Path) -> None:
        write_log(tmp_path, b"1700000000000 o ", b"x" * 5000)
        assert following.read_lines(tmp_path, 0, max_bytes=100) == ([], 0)

    def test_shows_what_is_no_record_as_output(self, tmp_path: Path) -> None:
        write_log(tmp_path, b"scribbled by the agent\n", b"\n", b"now o x\n", b"1 z x\n")
        lines, _ = following.read_lines(tmp_path, 0)
        assert [line.data for line in lines] == [b"scribbled by the agent", b"", b"now o x", b"1 z x"]
        assert {line.stream for line in lines} == {"out"}

    def test_gives_nothing_before_the_session_began(self, tmp_path: Path) -> None:
        assert following.read_lines(tmp_path, 0) == ([], 0)


class TestLastOutput:
    def test_is_the_end_of_standard_output_in_whole_lines(self, tmp_path: Path) -> None:
        held = hold_python(tmp_path, "import sys\nfor i in range(1000): print(i); print('e', i, file=sys.stderr)")
        held.end()
        assert following.last_output(held.folder, max_bytes=13) == b"997\n998\n999"
        assert following.last_output(held.folder, max_bytes=10**6).startswith(b"0\n1\n2\n")

    def test_is_found_at_the_end_of_a_long_log(self, tmp_path: Path) -> None:
        write_log(tmp_path, *(b"1700000000000 o %07d\n" % number for number in range(100_000)))
        assert following.last_output(tmp_path, max_bytes=20) == b"0099998\n0099999"

    def test_is_cut_where_a_single_line_is_too_long(self, tmp_path: Path) -> None:
        write_log(tmp_path, b"1700000000000 o ", b"x" * 50, b"\n")
        assert following.last_output(tmp_path, max_bytes=20) == b"x" * 20

    def test_is_empty_when_nothing_was_printed(self, tmp_path: Path) -> None:
        assert following.last_output(tmp_path, max_bytes=10) == b""
