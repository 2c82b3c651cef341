"""The hiding of secrets in what a session says and leaves.

A secret is found as it is, quoted for JSON, in base64, in hex and URL-encoded, in part as well; in base64 wherever it
begins, so also as part of `user:secret`. Where a line ends in the middle of it (`base64` and `xxd` wrap theirs) it is
found as well. Of a secret of several lines each line is one too. No more is promised: whoever holds a secret can write
it in a way that nobody foresaw. `runners.spellings` knows the ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from runners import recording, spellings
from runners.spellings import SHORTEST_SECRET as SHORTEST_SECRET
from runners.spellings import SURE, Span, View

REDACTED = "[redacted]"
_BLOCK = 1 << 20
_AT_ONCE = 1 << 18  # bytes of a stream, to redact
_MOST_HELD = 1 << 20  # bytes: a secret that repeats itself could go on for ever

# What is put behind a text that was cut.
_CUT = re.compile(r" ?(?:…|\.\.\.)[^…\n]{0,60}\Z")
_MARK = 80  # characters of it at most
_CUT_NOTES = (b"truncated:", b"line_cut:")  # of the shim, behind a line of which it kept the beginning


class Redactor:
    """Puts `[redacted]` where a secret stands. Secrets shorter than `SHORTEST_SECRET` are left alone.

    `shortest_line`: characters of a line, in a secret of several, that is a secret of its own.
    """

    def __init__(self, values: Iterable[str], *, shortest_line: int = SHORTEST_SECRET) -> None:
        self._views = spellings.views(values, shortest_line=shortest_line)

    def text(self, text: str) -> str:
        """Also the beginning of a secret is hidden where the text ends, or was cut, in the middle of one."""
        if not self._views:
            return text
        data = text.encode(errors="surrogatepass")
        redacted = self.data(data)
        if redacted is not data:
            text = redacted.decode(errors="surrogatepass")
        cut = _CUT.search(text, max(0, len(text) - _MARK))
        end = cut.start() if cut else len(text)
        body = text[:end].encode(errors="surrogatepass")
        begun = spellings.begun(self._views, body, sure=SHORTEST_SECRET)
        if not begun:
            return text
        return body[:-begun].decode(errors="surrogatepass") + REDACTED + text[end:]

    def data(self, data: bytes) -> bytes:
        return _redact(data, [piece for found in spellings.found(self._views, data) for piece in found])

    def value(self, value: Any) -> Any:
        """A JSON-able value, of the same shape. A number that shows a secret becomes a text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry) for entry in value]
        if value is None or isinstance(value, bool):
            return value
        written = str(value)
        redacted = self.text(written)
        return value if redacted == written else redacted

    def line(self, data: bytes) -> bytes:
        """A line as `data` has it. One that is a JSON object stays one."""
        redacted = self.data(data)
        if redacted is data or not data.startswith(b"{"):
            return redacted
        try:
            json.loads(redacted)
        except (ValueError, RecursionError):
            try:
                return json.dumps(self.value(json.loads(data))).encode()
            except (ValueError, RecursionError):
                return redacted
        return redacted

    def stream(self) -> RedactedStream:
        """For what comes in chunks, with a secret perhaps across two of them."""
        return RedactedStream(self._views)

    def log(self, path: Path) -> Iterator[bytes]:
        """The records of a log that `runners.recording` wrote, with their newlines: each stream of its own."""
        lines = {code: self._lines_of(path, code) for code in (recording.OUT, recording.ERR, recording.SHIM)}
        for header, code, _ in _records(path):
            yield header + next(lines[code])

    def _lines_of(self, path: Path, code: bytes) -> Iterator[bytes]:
        stream, ready, printed, before = self.stream(), b"", bytearray(), b""
        for _, its, data in _records(path):
            is_cut = before == code and its == recording.SHIM and data.startswith(_CUT_NOTES)
            if its == code:
                printed += data
            if is_cut or len(printed) > _AT_ONCE:
                *lines, ready = (ready + stream.feed(bytes(printed)) + (stream.flush() if is_cut else b"")).split(b"\n")
                yield from (line + b"\n" for line in lines)
                printed.clear()
            before = its
        last = ready + stream.feed(bytes(printed)) + stream.flush()
        yield from (line + b"\n" for line in last.split(b"\n")[:-1])

    def lines(self) -> RedactedLines:
        """For what comes line by line, with a secret perhaps across two of them."""
        return RedactedLines(self._views)

    def is_in(self, file: IO[bytes]) -> bool:
        """Whether a secret is in a file, read from where it stands."""
        if not self._views:
            return False
        held, reach = b"", max(view.reach for view in self._views)
        while chunk := file.read(_BLOCK):
            held += chunk
            if spellings.found(self._views, held):
                return True
            held = held[-reach:]
        return False


def _records(path: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Header, code of the stream, and what was printed, with its newline."""
    with path.open("rb") as log:
        for record in log:
            _, code, data = recording.parse(record) or (0, recording.OUT, record)
            yield record[: len(record) - len(data)], code, data.removesuffix(b"\n") + b"\n"


class RedactedStream:
    """Redacts chunk by chunk. Holds back the end of a chunk while a secret may go on in the next."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be said for sure by now."""
        data = self._held + chunk
        found = spellings.found(self._views, data)
        ready = len(data) - spellings.begun(self._views, data)
        for start, end in spellings.merged([(pieces[0][0], pieces[-1][1]) for pieces in found]):
            if start < ready < end:
                ready = start
        pieces = [piece for pieces in found for piece in pieces if piece[1] <= ready]
        if len(data) - ready > _MOST_HELD:
            pieces.append((ready, len(data)))
            ready = len(data)
        self._held = data[ready:]
        return _redact(data[:ready], pieces)

    def flush(self) -> bytes:
        """The rest: nothing follows. What seems to be the beginning of a secret is hidden."""
        rest, self._held = self._held, b""
        pieces = [piece for pieces in spellings.found(self._views, rest) for piece in pieces]
        if begun := spellings.begun(self._views, rest, sure=SHORTEST_SECRET):
            pieces += [match.span() for match in re.compile(rb"[^\r\n]+").finditer(rest, len(rest) - begun)]
        return _redact(rest, pieces)


class RedactedLines:
    """Redacts line by line. Holds lines back while a secret seems to go on in the next."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self._said = b""  # the end of what was handed out: a secret may have begun there unnoticed
        self._held: list[bytes] = []

    def feed(self, line: str) -> list[str]:
        """The lines that are sure by now, oldest first: none, or all that were fed and not handed out yet."""
        self._held.append(line.encode(errors="surrogatepass"))
        if spellings.begun(self._views, b"\n".join([self._said, *self._held]), sure=SURE):
            return []
        return self.flush()

    def flush(self) -> list[str]:
        """The rest, whether or not something follows. What seems to be the beginning of a secret is hidden."""
        lines, self._held = self._held, []
        whole = b"\n".join([self._said, *lines])
        pieces = [piece for found in spellings.found(self._views, whole) for piece in found]
        if begun := spellings.begun(self._views, whole, sure=SHORTEST_SECRET):
            pieces.append((len(whole) - begun, len(whole)))
        start, ready = len(self._said) + 1, []
        for line in lines:
            inside = [(max(0, a - start), min(len(line), b - start)) for a, b in pieces]
            ready.append(_redact(line, [(a, b) for a, b in inside if a < b]))
            start += len(line) + 1
        self._said = whole[len(whole) - spellings.begun(self._views, whole) :]
        return [line.decode(errors="surrogatepass") for line in ready]


def _redact(data: bytes, pieces: list[Span]) -> bytes:
    """`data` itself where there is nothing to hide. Ends of lines stay, so that lines do."""
    if not pieces:
        return data
    parts, done = [], 0
    for start, end in spellings.merged(pieces):
        parts += [data[done:start], REDACTED.encode()]
        done = end
    return b"".join([*parts, data[done:]])
