"""What a session's process printed, read from its folder by offset. All state is in the file.

So whoever follows a session, and is not the one who followed it before, goes on where that one was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from runners import recording
from runners.base import Line

READ_BYTES = 1024 * 1024
LINE_BYTES = 16 * 1024 * 1024  # handed over of one line; the log keeps more

_STREAMS: dict[bytes, Literal["out", "err", "shim"]] = {
    recording.OUT: "out",
    recording.ERR: "err",
    recording.SHIM: "shim",
}


def read_lines(
    folder: Path, offset: int, *, max_bytes: int = READ_BYTES, line_bytes: int = LINE_BYTES
) -> tuple[list[Line], int]:
    """The lines recorded from `offset` on, and the offset to go on from; none when nothing is new.

    Reads `max_bytes` at a time and only whole records, so no line comes twice or in parts. Of a
    line beyond `line_bytes` the beginning is handed over, with a remark at its end.
    """
    try:
        log = (folder / "output.log").open("rb")
    except FileNotFoundError:
        return [], offset
    with log:
        log.seek(offset)
        data = log.read(max_bytes)
        end = data.rfind(b"\n") + 1
        if end:
            return list(_lines(data[:end])), offset + end
        if len(data) < max_bytes:
            return [], offset
        size, beginning = len(data), bytearray(data[:line_bytes])
        while part := log.read(max_bytes):
            here, newline, _ = part.partition(b"\n")
            size += len(here)
            beginning += here[: max(0, line_bytes - len(beginning))]
            if newline:
                break
        else:
            return [], offset
    if size > line_bytes:
        beginning += b" [%d more bytes of this line]" % (size - line_bytes)
    return list(_lines(bytes(beginning) + b"\n")), offset + size + 1


def last_output(folder: Path, *, max_bytes: int) -> bytes:
    """The last whole lines on standard output, up to `max_bytes`, among the last of the log."""
    log_file = folder / "output.log"
    offset = max(0, log_file.stat().st_size - READ_BYTES) if log_file.exists() else 0
    if offset:
        with (folder / "output.log").open("rb") as log:
            log.seek(offset)
            offset += len(log.readline(READ_BYTES))
    lines, _ = read_lines(folder, offset)
    printed = b"\n".join(line.data for line in lines if line.stream == "out")
    if len(printed) > max_bytes:
        printed = printed[-max_bytes:].partition(b"\n")[2] or printed[-max_bytes:]
    return printed


def _lines(records: bytes) -> Iterator[Line]:
    for record in records[:-1].split(b"\n"):
        at_ms, code, data = recording.parse(record) or (0, recording.OUT, record)
        yield Line(at_ms=at_ms, stream=_STREAMS[code], data=data)
