"""The ways in which a secret may be written, and where one of them stands in data.

A *view* looks at data in one way: as it is, without the ends of its lines, as digits of hex, with its escapes undone.
Each finds the spellings that it is for, as spans of the data itself.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol
from urllib.parse import quote, quote_plus, unquote, urlsplit

Span = tuple[int, int]

SHORTEST_SECRET: Final = 6  # characters: what is shorter stands in ordinary text by chance
SURE: Final = 4  # characters at the end of data with which a secret seems to begin
_SIGN = 16  # bytes by which a text is known, to look at most places once: those of a line of dashes, for a key
_LONG = 16  # characters of a word, in a secret of several lines, that is a secret of its own

# What may stand inside of a secret where a line ends, as such or as JSON writes it, also twice over; and its beginning,
# where the data ends.
_LINE_END = rb"(?:\r\n|\n|\\\\{0,3}(?:r\\{1,4})?n)[ \t]*"
_LINE_END_BEGUN = rb"(?:\r|\\{1,4}(?:r\\{0,4})?)\Z"
_BLANKS = rb"[ \t]+"
# What stays as it is in a URL: for `quote`, as JavaScript's encodeURI has it, and its encodeURIComponent.
_PLAIN_IN_URLS = ("", "/", ";/?:@&=+$,#!~*'()", "!~*'()")

# Between the digits of hex: `68:75`, `68 75`, `6875 6e74`, `\x68\x75`, `68-75`, `68,75`, and where a line ends.
_BETWEEN_DIGITS: Final = b" \t\r\n:,-\\xnr"
_SMALL: Final = bytes(range(256)).lower()

# A character that is written as a code, where it need not be: in a URL, in JSON. And where the data ends within one.
_CODE = re.compile(rb"%([0-9A-Fa-f]{2})|\\{1,4}u([0-9A-Fa-f]{4})|\\{1,4}([\"'/])")
_CODE_BEGUN = re.compile(rb"(?:%[0-9A-Fa-f]?|\\{1,4}(?:u[0-9A-Fa-f]{0,3})?)\Z")
_LONGEST_CODE = 9


class View(Protocol):
    """`reach`: how far back from the end of data a secret may have begun."""

    reach: int

    def found(self, data: bytes) -> Iterator[list[Span]]:
        """Each secret, as the pieces of `data` that it consists of: without the ends of lines."""

    def begun(self, data: bytes) -> Span:
        """The longest end of `data` with which a secret begins, and does not end: its length, and how many of the
        secret's own characters are in there."""


def views(secrets: Iterable[str], *, shortest_line: int) -> list[View]:
    """What finds these secrets, and the parts of them that are secrets too, in any of the spellings."""
    parts = {part for value in secrets for part in _parts(value, shortest_line)}
    if not parts:
        return []
    forms = {form for part in parts for form in _forms(part)}
    plain = {part.encode(errors="surrogateescape") for part in parts}
    plainly = [
        # As it is; without ends of lines; without blanks either, as a line may end at one: for secrets that have some.
        _Plain(form for form in forms if len(re.sub(_LINE_END, b"", form)) in (len(form), *range(SHORTEST_SECRET))),
        _Plain(forms, ignoring=_LINE_END),
        _Plain((form for form in forms if b" " in form), ignoring=_LINE_END + b"|" + _BLANKS),
    ]
    return [*(view for view in plainly if view.forms), _Digits(plain), _Decoded(plain)]


def found(views: Sequence[View], data: bytes) -> list[list[Span]]:
    return [pieces for view in views for pieces in view.found(data)]


def begun(views: Sequence[View], data: bytes, *, sure: int = 0) -> int:
    """The length of the longest end of `data` with which a secret begins, by `sure` of its characters at least."""
    ends = (view.begun(data[-view.reach :]) for view in views)
    return max((length for length, characters in ends if characters >= sure), default=0)


def merged(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


class _Forms:
    """Texts to look for."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self.all = sorted((form for form in set(forms) if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
        self._by_start: dict[bytes, list[bytes]] = {}
        for form in self.all:
            self._by_start.setdefault(form[:SURE], []).append(form)
        self._signs = {form[:_SIGN] for form in self.all}
        self._starts = {form[:length] for form in self.all for length in range(1, SURE)}

    @property
    def longest(self) -> int:
        return len(self.all[0]) if self.all else 0

    def spans(self, data: bytes) -> list[Span]:
        return [span for form in self.all if form in data for span in _all(form, data)]

    def begun(self, data: bytes) -> int:
        longest = 0
        for start, forms in self._by_start.items():
            at = data.find(start, max(0, len(data) - len(forms[0])))
            while 0 <= at < len(data) - longest:
                sign = data[at : at + _SIGN]
                if len(sign) < _SIGN or sign in self._signs:
                    rest = data[at:]
                    if any(len(form) > len(rest) and form.startswith(rest) for form in forms):
                        longest = len(rest)
                at = data.find(start, at + 1)
        return longest or max((len(end) for end in (data[-3:], data[-2:], data[-1:]) if end in self._starts), default=0)


class _Plain:
    """Data as it is, or without what it ignores."""

    def __init__(self, forms: Iterable[bytes], *, ignoring: bytes = b"") -> None:
        self._ignored = re.compile(ignoring) if ignoring else None
        self._ignored_at_end = re.compile(_LINE_END_BEGUN + b"|" + ignoring) if ignoring else None
        self._forms = _Forms(self._ignored.sub(b"", form) for form in forms) if self._ignored else _Forms(forms)
        self.reach = 2 * self._forms.longest + 1024  # for ends of lines don't count

    @property
    def forms(self) -> Sequence[bytes]:
        return self._forms.all

    def found(self, data: bytes) -> Iterator[list[Span]]:
        seen = self._ignored.sub(b"", data) if self._ignored else data
        spans = self._forms.spans(seen)
        if not self._ignored:
            yield from ([span] for span in spans)
        elif spans:
            place = _Places(self._ignored, data)
            yield from (place.pieces(*span) for span in spans)

    def begun(self, data: bytes) -> Span:
        if not self._ignored_at_end:
            length = self._forms.begun(data)
            return length, length
        seen = self._ignored_at_end.sub(b"", data)
        length = self._forms.begun(seen)
        if not length:
            return 0, 0
        pieces = _Places(self._ignored_at_end, data).pieces(len(seen) - length, len(seen))
        return len(data) - pieces[0][0], length


class _Places:
    """Where the parts of what is seen, without what is ignored, are in the whole."""

    def __init__(self, ignored: re.Pattern[bytes], data: bytes) -> None:
        self._before: list[int] = []  # of each part that is ignored, its place in what is seen
        self._left_out: list[int] = [0]  # before each, and at last after all of them, how many bytes are ignored
        for match in ignored.finditer(data):
            self._before.append(match.start() - self._left_out[-1])
            self._left_out.append(self._left_out[-1] + match.end() - match.start())

    def pieces(self, start: int, end: int) -> list[Span]:
        """What of the whole is from `start` to `end` in what is seen."""
        found = []
        at = bisect.bisect_right(self._before, start)
        while start < end:
            until = min(end, self._before[at]) if at < len(self._before) else end
            if start < until:
                found.append((start + self._left_out[at], until + self._left_out[at]))
            start, at = until, at + 1
        return found


class _Digits:
    """Digits of hex, capitals and small letters alike, whatever commonly stands between them."""

    def __init__(self, secrets: Collection[bytes]) -> None:
        self._forms = _Forms(secret.hex().encode() for secret in secrets)
        self._patterns: dict[bytes, re.Pattern[bytes]] = {}  # of those that were seen
        self.reach = 4 * self._forms.longest + 1024

    def found(self, data: bytes) -> Iterator[list[Span]]:
        seen = data.translate(_SMALL, _BETWEEN_DIGITS)
        for form in self._forms.all:
            if form in seen:
                for match in self._pattern(form).finditer(data):
                    yield list(_within_lines(data, *match.span()))

    def begun(self, data: bytes) -> Span:
        length = missing = self._forms.begun(data.translate(_SMALL, _BETWEEN_DIGITS))
        start = len(data)
        while missing:
            start -= 1
            missing -= data[start] not in _BETWEEN_DIGITS
        return len(data) - start, length

    def _pattern(self, form: bytes) -> re.Pattern[bytes]:
        if form not in self._patterns:
            between = b"[" + re.escape(_BETWEEN_DIGITS) + b"]*"
            digits = between.join(form[at : at + 1] for at in range(len(form)))
            self._patterns[form] = re.compile(digits, re.IGNORECASE)
        return self._patterns[form]


def _within_lines(data: bytes, start: int, end: int) -> Iterator[Span]:
    """A span without the ends of lines in it."""
    for line_end in re.compile(_LINE_END).finditer(data, start, end):
        if start < line_end.start():
            yield start, line_end.start()
        start = line_end.end()
    if start < end:
        yield start, end


class _Decoded:
    """Data with its codes for single characters undone, wherever they are: of URLs, and of JSON."""

    def __init__(self, secrets: Collection[bytes]) -> None:
        self._forms = _Forms(secrets)
        self.reach = _LONGEST_CODE * self._forms.longest + 1024

    def found(self, data: bytes) -> Iterator[list[Span]]:
        if b"%" not in data and b"\\u" not in data:
            return
        spans = self._forms.spans(_CODE.sub(_character, data))
        if spans:
            place = _Origins(data)
            yield from (list(_within_lines(data, place.of(start), place.of(end))) for start, end in spans)

    def begun(self, data: bytes) -> Span:
        if b"%" not in data and b"\\" not in data:
            return 0, 0
        code = _CODE_BEGUN.search(data, max(0, len(data) - _LONGEST_CODE))
        whole = data[: code.start()] if code else data
        seen = _CODE.sub(_character, whole)
        length = self._forms.begun(seen)
        start = _Origins(whole).of(len(seen) - length) if length else len(whole)
        return len(data) - start, length


class _Origins:
    """Where in the data a place in what is seen comes from."""

    def __init__(self, data: bytes) -> None:
        self._seen: list[int] = [0]  # where a code begins or has ended, as it is seen, and in the data
        self._real: list[int] = [0]
        for match in _CODE.finditer(data):
            start = self._seen[-1] + match.start() - self._real[-1]
            self._seen += [start, start + len(_character(match))]
            self._real += [match.start(), match.end()]

    def of(self, place: int) -> int:
        """Never within a code."""
        at = bisect.bisect_right(self._seen, place) - 1
        real = self._real[at] + place - self._seen[at]
        return min(real, self._real[at + 1]) if at + 1 < len(self._real) else real


def _character(code: re.Match[bytes]) -> bytes:
    if code[1]:
        return bytes([int(code[1], 16)])
    return chr(int(code[2], 16)).encode(errors="surrogatepass") if code[2] else code[3]


def _all(form: bytes, data: bytes) -> Iterator[Span]:
    """Where it stands; what overlaps is one, or a secret such as `abababab` would be in too many places."""
    at = data.find(form)
    while at >= 0:
        start, end = at, at + len(form)
        while 0 <= (at := data.find(form, at + 1)) < end:
            end = at + len(form)
        yield start, end


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
