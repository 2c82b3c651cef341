"""What a session's process printed: the format of FOLDER/output.log, and the shim's writing of it.

A record is one line, `<Unix time in ms> <o|e|s> <bytes as they came>`: `o` was printed on standard
output, `e` on standard error, `s` is a note of the shim's own, `<code>: <sentence>`. Newline is the
only separator; carriage returns, NUL and what is not UTF-8 are kept. A record is written whole and
at once when its line is complete, so whoever follows the file by offset sees each line once. Memory
is bounded whatever is printed: a line beyond `HEAD_BYTES` waits for its end in a nameless file.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import os
import time

from runners import light
from runners.answer_lines import AnswerLines
from runners.light import suppress
from runners.result_lines import ResultLine

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable

OUT, ERR, SHIM = b"o", b"e", b"s"

HEAD_BYTES = 256 * 1024  # of an unfinished line, in memory
LINE_BYTES = 64 * 1024 * 1024  # kept of one line
RESULT_BYTES = 8 * 1024 * 1024  # kept of result lines beyond the cap: no verdict without them
TIME_DIGITS = 14  # of a record's time at most: until the year 5138
SIGN_BYTES = 256  # of a line's beginning, to tell whether it may become a result line


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def header(at_ms: int, code: bytes) -> bytes:
    return b"%d %s " % (at_ms, code)


def parse(record: bytes) -> tuple[int, bytes, bytes] | None:
    """Time in ms, code and bytes of a record without its newline.

    None when it is no record: somebody else has written in the file.
    """
    parts = record.split(b" ", 2)
    if len(parts) != 3 or not parts[0].isdigit() or parts[1] not in (OUT, ERR, SHIM):
        return None
    if len(parts[0]) > TIME_DIGITS:
        return None
    return int(parts[0]), parts[1], parts[2]


class Stream:
    """One of the program's two pipes, and its line that is not finished yet."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.clear()

    def clear(self) -> None:
        self.head = bytearray()
        self.spool = -1  # descriptor of the nameless file with what follows the head
        self.spooled = 0
        self.dropped = 0

    @property
    def kept(self) -> int:
        return len(self.head) + self.spooled


class Recorder:
    """Writes the log. An error of the disk is told by `broken`; from then on nothing is written.

    Once `cap` bytes are written, what comes is counted and dropped, save for result lines on
    standard output. `printed` counts all bytes that the program printed; `truncated` says that not
    all of them were kept.
    """

    def __init__(
        self,
        path: str,
        *,
        cap: int,
        result: ResultLine | None = None,
        answers: AnswerLines | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.printed = 0
        self.truncated = False
        self.broken = ""
        self._path = path
        self._cap = self._room = cap
        self._capped = False
        self._result = result or ResultLine()
        self._answers = answers or AnswerLines()
        self._signs = [sign for sign in (self._result.sign, self._answers.sign) if sign]
        self._result_room = RESULT_BYTES
        self._clock = clock
        self._size = 0
        self._log = _create(path)

    def feed(self, stream: Stream, chunk: bytes) -> bool:
        """Take what was read from a pipe. True when a result line ended in it."""
        self.printed += len(chunk)
        first, newline, rest = chunk.partition(b"\n")
        self._hold(stream, first)
        if not newline:
            return False
        result = self._end_line(stream)
        lines, newline, last = rest.rpartition(b"\n")
        if newline:
            result = self._whole_lines(stream, lines) or result
        self._hold(stream, last)
        return result

    def finish(self, stream: Stream) -> bool:
        """The pipe is closed: what stands there without a newline becomes a record too."""
        return self._end_line(stream) if stream.kept or stream.dropped else False

    def note(self, code: str, sentence: str) -> None:
        """A record of the shim's own. There are few: they do not count against the cap."""
        self._append(header(self._clock(), SHIM) + f"{code}: {sentence}\n".encode())

    def close(self) -> None:
        os.close(self._log)

    def _whole_lines(self, stream: Stream, lines: bytes) -> bool:
        """Record lines that came whole; at the speed of C where none of them can be a result or an answer."""
        if stream.code == OUT and any(sign in lines for sign in self._signs):
            result = False
            for line in lines.split(b"\n"):
                self._hold(stream, line)
                result = self._end_line(stream) or result
            return result
        start = header(self._clock(), stream.code)
        records = start + lines.replace(b"\n", b"\n" + start) + b"\n"
        fitting = len(records)
        if fitting > self._room:
            fitting = records.rfind(b"\n", 0, max(0, self._room)) + 1
        self._append(records[:fitting])
        self._room -= fitting
        if fitting < len(records):
            self._full()
        return False

    def _hold(self, stream: Stream, data: bytes) -> None:
        """Add to the unfinished line as much of `data` as may be kept."""
        keep = b""
        if not stream.dropped:
            begin = bytes(stream.head[:SIGN_BYTES]) + data[:SIGN_BYTES]
            room = self._room_for(stream.code == OUT and self._result.may_begin(begin))
            keep = data[: max(0, min(room, LINE_BYTES) - stream.kept)]
        stream.dropped += len(data) - len(keep)
        if stream.spool < 0 and stream.kept + len(keep) <= HEAD_BYTES:
            stream.head += keep
        else:
            self._spool(stream, keep)

    def _end_line(self, stream: Stream) -> bool:
        """Record the unfinished line, or what may be kept of it. True when it is a result line."""
        line = self._whole_line(stream)
        result = self._result.is_result(line)
        self._answers.see(line)
        start = header(self._clock(), stream.code)
        size = min(stream.kept, self._room_for(result) - len(start) - 1)
        whole = size == stream.kept and not stream.dropped
        if size > 0 or whole:
            spooled = size - len(stream.head)
            newline = b"" if spooled > 0 else b"\n"
            self._append(start + bytes(stream.head[:size]) + newline, stream.spool, spooled)
            length = len(start) + size + 1
            if length <= self._room:
                self._room -= length
            else:
                self._result_room -= length
        if size == LINE_BYTES and stream.dropped:
            self.truncated = True
            self.note("line_cut", f"{stream.dropped} more bytes of the line above are not kept.")
        elif not whole:
            self._full()
        if stream.spool >= 0:
            os.close(stream.spool)
        stream.clear()
        return result

    def _whole_line(self, stream: Stream) -> bytes:
        """The line that ends here, to be looked at; empty where it can't be a result or an answer."""
        if stream.code != OUT or not self._signs or stream.kept > RESULT_BYTES:
            return b""
        rest = os.pread(stream.spool, stream.spooled, 0) if stream.spooled else b""
        return bytes(stream.head) + rest

    def _room_for(self, result: bool) -> int:
        """How many bytes one more record may take."""
        return max(self._room, self._result_room) if result else self._room

    def _full(self) -> None:
        """From here on nothing but result lines is kept."""
        self._room = 0
        if not self._capped:
            self._capped = self.truncated = True
            self.note("truncated", f"The output passed {self._cap} bytes. The rest is not kept.")

    def _spool(self, stream: Stream, data: bytes) -> None:
        if self.broken or not data:
            return
        try:
            if stream.spool < 0:
                path = f"{self._path}.{stream.code.decode()}"
                stream.spool = _create(path)
                os.unlink(path)
            light.write(stream.spool, data)
            stream.spooled += len(data)
        except OSError as error:
            self._break(error)

    def _append(self, records: bytes, spool: int = -1, spooled: int = 0) -> None:
        """Write whole records.

        Where `spooled` is positive the last of them goes on with so many bytes of `spool`, and is
        ended here.
        """
        if self.broken:
            return
        try:
            light.write(self._log, records)
            sent = 0
            while sent < spooled:
                sent += os.sendfile(self._log, spool, sent, spooled - sent)
            if sent:
                light.write(self._log, b"\n")
            self._size = os.lseek(self._log, 0, os.SEEK_CUR)
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        """The disk is full or faulty: take back the record that was begun, and write no more."""
        self.broken = error.strerror or str(error)
        self.truncated = True
        with suppress(OSError):
            os.ftruncate(self._log, self._size)


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
