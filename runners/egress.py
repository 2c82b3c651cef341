"""The way out of a sandbox whose schedule names hosts: a small HTTP proxy, and the rules that it goes by.

It runs outside of the sandbox and answers on a socket that was opened inside, where nothing else leads out. CONNECT is
a tunnel and not looked into; a plain `GET http://…` is passed on. Names are resolved out here. Whom it refuses is told
why, and so is the session's transcript. Standard library only: a sandbox's keeper imports it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

USUAL_PORTS = (443, 80)  # of a host that is named without one
CONNECTIONS = 64  # at once; the next one waits
SECONDS = 30.0  # to say whom to reach, and to reach it
HEAD_BYTES = 64 * 1024
TOLD = 100  # refused hosts that the transcript names

Target = tuple[str, int]

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*(:(?P<port>\d{{1,5}}))?", re.IGNORECASE)
_OURS_ALONE = re.compile(rb"(proxy-[^:]*|connection|keep-alive):", re.IGNORECASE)


def host_problem(entry: str) -> str:
    """What is wrong with one entry of an allow-list; empty when all is well."""
    match = _HOST.fullmatch(entry)
    if match is None or len(entry) > 253:
        return f"“{entry}” is no host's name. Such as api.example.com, *.example.com or forge.example.com:8443."
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        return f"“{entry}”: a port is a number from 1 to 65535."
    return ""


def permits(entries: Iterable[str], target: Target) -> bool:
    """Whether an allow-list lets this host and port through. `*.` stands for one name or more, not for none."""
    name, port = target[0].lower().rstrip("."), target[1]
    for entry in entries:
        host, _, number = entry.lower().partition(":")
        if port not in ((int(number),) if number else USUAL_PORTS):
            continue
        if name == host or (host.startswith("*.") and name.endswith(host[1:]) and name != host[1:]):
            return True
    return False


class Egress:
    """Answers on a listening socket, in threads that end with the process."""

    def __init__(self, entries: Iterable[str], *, tell: Callable[[str], None]) -> None:
        self._entries = tuple(entries)
        self._tell = tell
        self._told: set[Target] = set()
        self._room = threading.BoundedSemaphore(CONNECTIONS)

    def serve(self, listening: socket.socket) -> None:
        """For ever, or until the socket is closed."""
        while True:
            self._room.acquire()
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                client.settimeout(SECONDS)
                self._answer(client)
        finally:
            self._room.release()

    def _answer(self, client: socket.socket) -> None:
        head, rest = _head(client)
        try:
            target, beginning = _asked(head)
        except ValueError:
            _refuse(client, "400 Bad Request", "This is a proxy for HTTP and HTTPS, and that was neither.")
            return
        name, port = target
        if not permits(self._entries, target):
            reason = f"{name}:{port} is not among the allowed hosts of this session's schedule"
            self._tell_once(target, f"Sandbox: {reason}: refused.")
            _refuse(client, "403 Forbidden", f"{reason}. They are: {', '.join(self._entries)}.")
            return
        try:
            server = socket.create_connection(target, timeout=SECONDS)
        except OSError as error:
            _refuse(client, "502 Bad Gateway", f"{name}:{port} can't be reached: {error.strerror or error}.")
            return
        with server:
            if not beginning:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            server.sendall(beginning + rest)
            _join(client, server)

    def _tell_once(self, target: Target, text: str) -> None:
        if target not in self._told and len(self._told) < TOLD:
            self._told.add(target)
            self._tell(text)


def tell(text: str) -> None:
    """One line on standard error: the session's transcript has it."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """What the client asks, up to the empty line, and what it sent beyond that."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < HEAD_BYTES and (chunk := client.recv(4096)):
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _asked(head: bytes) -> tuple[Target, bytes]:
    """Whom the client wants to reach, and how what it asks begins there: nothing, for a tunnel. Raises ValueError."""
    first, *fields = head.split(b"\r\n")
    method, address, version = first.decode("ascii").split(" ")
    if method == "CONNECT":
        return _target(address, port=None), b""
    scheme, _, place = address.partition("://")
    if scheme.lower() != "http":
        raise ValueError("neither a tunnel nor plain HTTP")
    authority, slash, path = place.partition("/")
    kept = [field for field in fields if not _OURS_ALONE.match(field)]
    begin = f"{method} {slash or '/'}{path} {version}".encode()
    return _target(authority, port=80), b"\r\n".join([begin, *kept, b"Connection: close", b"", b""])


def _target(authority: str, *, port: int | None) -> Target:
    name, _, number = authority.partition(":")
    if not name or host_problem(name):
        raise ValueError("no host")
    return name, int(number) if number or port is None else port


def _refuse(client: socket.socket, status: str, text: str) -> None:
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _join(client: socket.socket, server: socket.socket) -> None:
    """Hand on what either says until both have ended. A thread each: one may wait while the other speaks."""
    client.settimeout(None)
    server.settimeout(None)
    back = threading.Thread(target=_hand_on, args=(server, client), daemon=True)
    back.start()
    _hand_on(client, server)
    back.join()


def _hand_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        source.shutdown(socket.SHUT_RD)
