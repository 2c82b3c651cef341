"""What a session's process sees of its surroundings, and the hiding of its secrets in what it says.

The environment of a session is an allow-list: what is below, and what its schedule names. Nothing
of the worker's own environment is handed on.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from runners import processes
from runners.base import OptionsInvalid

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REDACTED = "[redacted]"
SHORTEST_SECRET = 6  # what is shorter stands in ordinary text by chance
LONGEST_VALUE = 128 * 1024 - 1  # bytes of NAME=value that Linux hands to a program

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Nobody is there to answer a question, to page through text or to write a message in an editor.
_UNATTENDED = {
    "CI": "1",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
}
_LOCALE = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Rota",
    "GIT_AUTHOR_EMAIL": "rota@localhost",
    "GIT_COMMITTER_NAME": "Rota",
    "GIT_COMMITTER_EMAIL": "rota@localhost",
}
_USER = {"USER": "rota", "LOGNAME": "rota"}

_FOREIGN_CODE = "makes every program of the session load code from elsewhere"
_OURS = "Rota sets it anew for each session"
_REFUSED = {
    "HOME": _OURS,
    "TMPDIR": _OURS,
    processes.MARKER: _OURS,
    "PATH": "it is the same for all sessions of a worker; call a program by its full path instead",
    "LD_PRELOAD": _FOREIGN_CODE,
    "LD_AUDIT": _FOREIGN_CODE,
    "LD_LIBRARY_PATH": _FOREIGN_CODE,
}


def environment_problems(variables: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with variables for a session: name → a sentence. Empty when all is well."""
    found = {}
    for name, value in variables.items():
        if not _NAME.fullmatch(name):
            found[name] = "A name has letters, digits and _ only, and no digit at its beginning."
        elif name in _REFUSED:
            found[name] = f"{name} can't be set: {_REFUSED[name]}."
        elif "\0" in value:
            found[name] = f"The value of {name} has a NUL character, which no program can be given."
        elif len(name) + len(value.encode(errors="surrogateescape")) >= LONGEST_VALUE:
            found[name] = f"The value of {name} is longer than the 128 KiB a program can be given."
    return found


def session_environment(*, home: Path, extra: Mapping[str, str], path: str | None = None) -> dict[str, str]:
    """The whole environment of a session: ours, and `extra`, which may replace some of ours.

    `path` is the worker's setting of PATH for its sessions. TMPDIR lies in `home` and goes with it.
    Raises OptionsInvalid when `extra` names what can't be set.
    """
    if problems := environment_problems(extra):
        raise OptionsInvalid({"environment": " ".join(problems.values())})
    fixed = {"PATH": path or PATH, "HOME": str(home), "TMPDIR": str(home / "tmp")}
    return _UNATTENDED | _LOCALE | _GIT | _USER | fixed | dict(extra)


class Redactor:
    """Puts `[redacted]` where a secret stands: as it is, quoted for JSON, base64, hex, URL-encoded.

    In base64 it is found wherever it begins, so also as part of `user:secret`. Secrets shorter than
    `SHORTEST_SECRET` are left alone: their letters stand in ordinary text by chance.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._data = re.compile(b"|".join(map(re.escape, self._forms)))
        self._text = re.compile(self._data.pattern.decode(errors="surrogateescape"))

    def text(self, text: str) -> str:
        return self._text.sub(REDACTED, text) if self._forms else text

    def data(self, data: bytes) -> bytes:
        return self._data.sub(REDACTED.encode(), data) if self._forms else data

    def stream(self) -> RedactedStream:
        """For text that comes in chunks, with a secret perhaps across two of them."""
        return RedactedStream(self._forms, self._data)


class RedactedStream:
    """Redacts chunk by chunk. Holds back the end of a chunk while a secret may go on in the next."""

    def __init__(self, forms: list[bytes], pattern: re.Pattern[bytes]) -> None:
        self._forms = forms
        self._pattern = pattern
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be said for sure by now."""
        if not self._forms:
            return chunk
        data = self._held + chunk
        ready = len(data) - self._unsure(data)
        for match in self._pattern.finditer(data):
            if match.start() < ready < match.end():
                ready = match.end()
        self._held = data[ready:]
        return self._pattern.sub(REDACTED.encode(), data[:ready])

    def flush(self) -> bytes:
        """The rest: nothing follows."""
        rest, self._held = self._held, b""
        return self._pattern.sub(REDACTED.encode(), rest) if self._forms else rest

    def _unsure(self, data: bytes) -> int:
        """The length of the longest end of `data` that is the beginning of a secret."""
        for length in range(min(len(self._forms[0]) - 1, len(data)), 0, -1):
            end = data[-length:]
            if any(len(form) > length and form.startswith(end) for form in self._forms):
                return length
        return 0


def _forms(value: str) -> Iterator[bytes]:
    """The ways in which a secret may be written. Of several lines, each is a secret too."""
    parts = [value, value.strip()]
    if len(lines := value.split()) > 1 and "\n" in value:
        parts += [line for line in lines if len(line) >= 16]
    for part in parts:
        if len(part) < SHORTEST_SECRET:
            continue
        data = part.encode(errors="surrogateescape")
        yield data
        yield json.dumps(part)[1:-1].encode()
        yield json.dumps(part, ensure_ascii=False)[1:-1].encode(errors="surrogateescape")
        yield data.hex().encode()
        yield data.hex().upper().encode()
        yield from _base64(data)
        for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
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
