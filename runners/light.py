"""What a shim needs of the standard library, without what that imports.

`json`, `signal` and `contextlib` bring `re`, `enum`, `functools` and `collections` with them: that took a shim half of
its start, and every session pays for one.
"""

from __future__ import annotations

import _json
import os

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal

__all__ = ["dumps", "loads", "read", "signal", "suppress", "write"]

READ_BYTES = 8192


class suppress:  # noqa: N801 - as in contextlib
    """These errors end the block, and nothing more."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def read(path: str) -> bytes:
    """A whole file. Raises OSError. `open` takes five system calls more, and some pages of memory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    parts = []
    try:
        while part := os.read(descriptor, READ_BYTES):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def write(descriptor: int, data: bytes) -> None:
    """All of it: the last bytes of a disk are written before it is full. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def loads(text: str | bytes) -> Any:
    """As `json.loads` reads it. Raises ValueError."""
    plain = (text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text).strip(" \t\n\r")
    try:
        value, end = _scan(plain, 0)
    except StopIteration as error:
        raise ValueError(f"Expecting a value at {error.value}") from None
    except SystemError:  # what is wrong `json.decoder` alone can say, and nobody here has imported it
        raise ValueError("It is no JSON") from None
    if end != len(plain):
        raise ValueError(f"Extra data at {end}")
    return value


def dumps(value: object) -> str:
    """As `json.dumps` writes it."""
    return "".join(_encode(value, 0))


class _Reading:
    """What the scanner asks for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__
    memo: dict[str, str] = {}


def _refused(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_scan = _json.make_scanner(_Reading)  # type: ignore[arg-type]
_encode = _json.make_encoder(None, _refused, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True)
