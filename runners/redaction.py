"""The hiding of secrets in what a session says and leaves.

A secret is found as it is, quoted for JSON, in base64, in hex and URL-encoded; in base64 wherever it begins, so also as
part of `user:secret`. Where a line ends in the middle of it (`base64` and `xxd` wrap theirs) it is found as well. Of a
secret of several lines each line is one too. No more is promised: whoever holds a secret can write it in a way that
nobody foresaw.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from runners import recording

REDACTED = "[redacted]"
SHORTEST_SECRET = 6  # characters: what is shorter stands in ordinary text by chance
_LONG = 16  # characters of a word, in a secret of several lines, that is a secret of its own
_SURE = 4  # bytes at the end of a line with which a secret seems to begin
_BLOCK = 1 << 20
_AT_ONCE = 1 << 18  # bytes of a stream, to redact
_MOST_HELD = 1 << 20  # bytes: a secret that repeats itself could go on for ever

_Span = tuple[int, int]

# What may stand inside of a secret where a line ends, as such or as JSON writes it, also twice over; and its beginning,
# where the data ends.
_LINE_END = rb"(?:\r\n|\n|\\\\{0,3}(?:r\\{1,4})?n)[ \t]*"
_LINE_END_BEGUN = rb"(?:\r|\\{1,4}(?:r\\{0,4})?)\Z"
_BLANKS = rb"[ \t]+"
# What is put behind a text that was cut.
_CUT = re.compile(r" ?(?:…|\.\.\.)[^…\n]{0,60}\Z")
_MARK = 80  # characters of it at most
_CUT_NOTES = (b"truncated:", b"line_cut:")  # of the shim, behind a line of which it kept the beginning
# What stays as it is in a URL: for `quote`, as JavaScript's encodeURI has it, and its encodeURIComponent.
_PLAIN_IN_URLS = ("", "/", ";/?:@&=+$,#!~*'()", "!~*'()")


class Redactor:
    """Puts `[redacted]` where a secret stands. Secrets shorter than `SHORTEST_SECRET` are left alone.

    `shortest_line`: characters of a line, in a secret of several, that is a secret of its own.
    """

    def __init__(self, values: Iterable[str], *, shortest_line: int = SHORTEST_SECRET) -> None:
        self._views = _views(
            {form for value in values for part in _parts(value, shortest_line) for form in _forms(part)}
        )

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
        begun = _begun(self._views, body)
        if begun < SHORTEST_SECRET:
            return text
        return body[:-begun].decode(errors="surrogatepass") + REDACTED + text[end:]

    def data(self, data: bytes) -> bytes:
        return _redact(data, [piece for found in _found(self._views, data) for piece in found])

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
        stream, ready, printed, before = self.stream(), b"", b"", b""
        for _, its, data in _records(path):
            is_cut = before == code and its == recording.SHIM and data.startswith(_CUT_NOTES)
            if its == code:
                printed += data
            if is_cut or len(printed) > _AT_ONCE:
                *lines, ready = (ready + stream.feed(printed) + (stream.flush() if is_cut else b"")).split(b"\n")
                yield from (line + b"\n" for line in lines)
                printed = b""
            before = its
        last = ready + stream.feed(printed) + stream.flush()
        yield from (line + b"\n" for line in last.split(b"\n")[:-1])

    def lines(self) -> RedactedLines:
        """For what comes line by line, with a secret perhaps across two of them."""
        return RedactedLines(self._views)

    def is_in(self, file: IO[bytes]) -> bool:
        """Whether a secret is in a file, read from where it stands."""
        held, reach = b"", _reach(self._views)
        while chunk := file.read(_BLOCK):
            held += chunk
            if _found(self._views, held):
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

    def __init__(self, views: Sequence[_View]) -> None:
        self._views = views
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be said for sure by now."""
        data = self._held + chunk
        found = _found(self._views, data)
        ready = len(data) - _begun(self._views, data)
        for start, end in _merged([(pieces[0][0], pieces[-1][1]) for pieces in found]):
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
        pieces = [piece for pieces in _found(self._views, rest) for piece in pieces]
        begun = _begun(self._views, rest)
        if begun >= SHORTEST_SECRET:
            pieces += [match.span() for match in re.compile(rb"[^\r\n]+").finditer(rest, len(rest) - begun)]
        return _redact(rest, pieces)


class RedactedLines:
    """Redacts line by line. Holds lines back while a secret seems to go on in the next."""

    def __init__(self, views: Sequence[_View]) -> None:
        self._views = views
        self._said = b""  # the end of what was handed out: a secret may have begun there unnoticed
        self._held: list[bytes] = []

    def feed(self, line: str) -> list[str]:
        """The lines that are sure by now, oldest first: none, or all that were fed and not handed out yet."""
        self._held.append(line.encode(errors="surrogatepass"))
        if _begun(self._views, b"\n".join([self._said, *self._held])) >= _SURE:
            return []
        return self.flush()

    def flush(self) -> list[str]:
        """The rest, whether or not something follows. What seems to be the beginning of a secret is hidden."""
        lines, self._held = self._held, []
        whole = b"\n".join([self._said, *lines])
        pieces = [piece for found in _found(self._views, whole) for piece in found]
        begun = _begun(self._views, whole)
        if begun >= SHORTEST_SECRET:
            pieces.append((len(whole) - begun, len(whole)))
        start, ready = len(self._said) + 1, []
        for line in lines:
            inside = [(max(0, a - start), min(len(line), b - start)) for a, b in pieces]
            ready.append(_redact(line, [(a, b) for a, b in inside if a < b]))
            start += len(line) + 1
        self._said = whole[len(whole) - begun :]
        return [line.decode(errors="surrogatepass") for line in ready]


class _View:
    """Data as it is, or without what it ignores: forms of secrets are looked for in that."""

    def __init__(self, forms: Iterable[bytes], *, ignoring: bytes = b"") -> None:
        self._ignored = re.compile(ignoring) if ignoring else None
        self._ignored_at_end = re.compile(_LINE_END_BEGUN + b"|" + ignoring) if ignoring else None
        if self._ignored:
            forms = {self._ignored.sub(b"", form) for form in forms}
        self.forms = sorted((form for form in forms if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
        self._by_start: dict[bytes, list[bytes]] = {}
        for form in self.forms:
            self._by_start.setdefault(form[:_SURE], []).append(form)
        self._starts = {form[:length] for form in self.forms for length in range(1, _SURE)}

    def found(self, data: bytes) -> Iterator[list[_Span]]:
        """Each secret, as the pieces of `data` that it consists of."""
        seen = self._ignored.sub(b"", data) if self._ignored else data
        spans = [span for form in self.forms if form in seen for span in _all(form, seen)]
        if not self._ignored:
            yield from ([span] for span in spans)
        elif spans:
            place = _Places(self._ignored, data)
            yield from (place.pieces(*span) for span in spans)

    def begun(self, data: bytes) -> int:
        """The length of the longest end of `data` with which a secret begins, and does not end."""
        if not self._ignored_at_end:
            return self._begun(data)
        seen = self._ignored_at_end.sub(b"", data)
        begun = self._begun(seen)
        if not begun:
            return 0
        pieces = _Places(self._ignored_at_end, data).pieces(len(seen) - begun, len(seen))
        return len(data) - pieces[0][0]

    def _begun(self, data: bytes) -> int:
        longest = 0
        for start, forms in self._by_start.items():
            at = data.find(start)
            while 0 <= at < len(data) - longest:
                rest = data[at:]
                if any(len(form) > len(rest) and form.startswith(rest) for form in forms):
                    longest = len(rest)
                at = data.find(start, at + 1)
        return longest or max((len(end) for end in (data[-3:], data[-2:], data[-1:]) if end in self._starts), default=0)


class _Places:
    """Where the parts of what is seen, without what is ignored, are in the whole."""

    def __init__(self, ignored: re.Pattern[bytes], data: bytes) -> None:
        self._before: list[int] = []  # of each part that is ignored, its place in what is seen
        self._left_out: list[int] = [0]  # before each, and at last after all of them, how many bytes are ignored
        for match in ignored.finditer(data):
            self._before.append(match.start() - self._left_out[-1])
            self._left_out.append(self._left_out[-1] + match.end() - match.start())

    def pieces(self, start: int, end: int) -> list[_Span]:
        """What of the whole is from `start` to `end` in what is seen."""
        found = []
        at = bisect.bisect_right(self._before, start)
        while start < end:
            until = min(end, self._before[at]) if at < len(self._before) else end
            if start < until:
                found.append((start + self._left_out[at], until + self._left_out[at]))
            start, at = until, at + 1
        return found


def _views(forms: Collection[bytes]) -> list[_View]:
    """As it is; without ends of lines; without blanks either, as a line may end at one: for secrets that have some."""
    views = [
        _View(form for form in forms if len(re.sub(_LINE_END, b"", form)) in (len(form), *range(SHORTEST_SECRET))),
        _View(forms, ignoring=_LINE_END),
        _View((form for form in forms if b" " in form), ignoring=_LINE_END + b"|" + _BLANKS),
    ]
    return [view for view in views if view.forms]


def _found(views: Sequence[_View], data: bytes) -> list[list[_Span]]:
    return [pieces for view in views for pieces in view.found(data)]


def _begun(views: Sequence[_View], data: bytes) -> int:
    """The length of the longest end of `data` with which a secret begins, and does not end."""
    tail = data[-_reach(views) :]
    return max((view.begun(tail) for view in views), default=0)


def _reach(views: Sequence[_View]) -> int:
    """How far back a secret may have begun. Twice the longest, for ends of lines don't count."""
    return 2 * max((len(view.forms[0]) for view in views), default=0) + 1024


def _all(form: bytes, data: bytes) -> Iterator[_Span]:
    """Where it stands; what overlaps is one, or a secret such as `abababab` would be in too many places."""
    at = data.find(form)
    while at >= 0:
        start, end = at, at + len(form)
        while 0 <= (at := data.find(form, at + 1)) < end:
            end = at + len(form)
        yield start, end


def _merged(spans: list[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _redact(data: bytes, pieces: list[_Span]) -> bytes:
    """`data` itself where there is nothing to hide. Ends of lines stay, so that lines do."""
    if not pieces:
        return data
    parts, done = [], 0
    for start, end in _merged(pieces):
        parts += [data[done:start], REDACTED.encode()]
        done = end
    return b"".join([*parts, data[done:]])


def _parts(value: str, shortest_line: int) -> Iterator[str]:
    """What of a secret is one: all of it; of several lines each, and each long word; of a URL, its password."""
    wanted = {value, value.strip()}
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        wanted |= {line for line in lines if len(line) >= shortest_line}
        wanted |= {word for word in value.split() if len(word) >= _LONG}
    for line in lines:
        wanted |= _passwords(line)
    yield from (part for part in wanted if len(part) >= SHORTEST_SECRET)


def _passwords(line: str) -> set[str]:
    if "://" not in line or "@" not in line:
        return set()
    try:
        password = urlsplit(line).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def _forms(part: str) -> Iterator[bytes]:
    """The ways in which a text may be written."""
    data = part.encode(errors="surrogateescape")
    yield data
    for ascii_only in (True, False):
        once = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
        yield once.encode(errors="surrogateescape")
        yield once.replace("/", "\\/").encode(errors="surrogateescape")
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1].encode(errors="surrogateescape")
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield from _base64(data)
    everything = "".join(f"%{byte:02X}" for byte in data)
    for quoted in (*(quote(data, safe=safe) for safe in _PLAIN_IN_URLS), quote_plus(data), everything):
        yield quoted.encode()
        yield re.sub(r"%..", lambda code: code[0].lower(), quoted).encode()


def _base64(data: bytes) -> Iterator[bytes]:
    """What all encodings of texts that hold `data` have in common, for each way it can lie in one.

    Three bytes become four letters, so it can begin at the first, second or third of three; letters
    that also depend on its neighbours are left out.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        first = (0, 2, 3)[before]
        last = (before + len(data)) * 8 // 6
        if last - first >= SHORTEST_SECRET:
            yield encoded[first:last]
            yield encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))
