"""The way out of a sandbox: what an allow-list lets through, and what the proxy does about the rest."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from runners.egress import CONNECTIONS, Egress, host_problem, permits
from tests.processes import until


class _Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked, and how."""

    def do_GET(self) -> None:
        told = f"{self.path} {sorted(name.lower() for name in self.headers)}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is the test's."""


@pytest.fixture
def server() -> Iterator[int]:
    """The port of an HTTP server on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving.server_address[1]
        serving.shutdown()
        thread.join()


class Proxy:
    """A proxy on loopback, and what it told."""

    def __init__(self, listening: socket.socket, *hosts: str) -> None:
        self.told: list[str] = []
        self.port: int = listening.getsockname()[1]
        self.egress = Egress(hosts, tell=self.told.append)
        threading.Thread(target=self.egress.serve, args=(listening,), daemon=True).start()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def say(self, data: bytes) -> bytes:
        """All that it answers to this."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(4096), b""))


@contextlib.contextmanager
def proxy(*hosts: str) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Proxy(listening, *hosts)
        listening.shutdown(socket.SHUT_RDWR)


class TestAllowList:
    @pytest.mark.parametrize(
        ("entry", "name", "port", "permitted"),
        [
            ("api.example.com", "api.example.com", 443, True),
            ("api.example.com", "api.example.com", 80, True),
            ("api.example.com", "API.Example.COM.", 443, True),
            ("API.example.com", "api.example.com", 443, True),
            ("api.example.com", "api.example.com", 22, False),
            ("api.example.com", "example.com", 443, False),
            ("api.example.com", "api.example.com.evil.test", 443, False),
            ("example.com", "api.example.com", 443, False),
            ("*.example.com", "api.example.com", 443, True),
            ("*.example.com", "a.b.example.com", 443, True),
            ("*.example.com", "example.com", 443, False),
            ("*.example.com", "evilexample.com", 443, False),
            ("forge.example.com:8443", "forge.example.com", 8443, True),
            ("forge.example.com:8443", "forge.example.com", 443, False),
            ("127.0.0.1:8080", "127.0.0.1", 8080, True),
            ("127.0.0.1:8080", "127.0.0.2", 8080, False),
        ],
    )
    def test_lets_through_what_it_names(self, entry: str, name: str, port: int, permitted: bool) -> None:
        assert permits([entry], (name, port)) is permitted

    def test_needs_one_entry_that_fits(self) -> None:
        assert permits(["a.test", "b.test"], ("b.test", 443))
        assert not permits([], ("b.test", 443))

    @pytest.mark.parametrize(
        "entry", ["api.example.com", "*.example.com", "localhost:1", "my_host.test:65535", "10.0.0.1"]
    )
    def test_takes_names_of_hosts(self, entry: str) -> None:
        assert host_problem(entry) == ""

    @pytest.mark.parametrize(
        "entry",
        [
            *("", " ", "https://example.com", "example.com/x", "*", "*.", "a..b", "a.*.b", "-x.test", "x:", "x:0"),
            *("x:65536", "::1", "[::1]:443", "exämple.com", "a b", "a\n", "--", "a" * 64 + ".test", "a." * 130 + "b"),
        ],
    )
    def test_takes_nothing_else(self, entry: str) -> None:
        assert host_problem(entry)


class TestProxy:
    def test_opens_a_tunnel_to_an_allowed_host(self, server: int) -> None:
        with proxy(f"localhost:{server}") as at:
            connection = at.connection()
            connection.set_tunnel("localhost", server)
            connection.request("GET", "/in/a/tunnel", headers={"X-Mine": "kept"})
            assert b"/in/a/tunnel" in connection.getresponse().read()
            connection.close()
            assert at.told == []

    def test_passes_plain_http_on_without_what_was_meant_for_it(self, server: int) -> None:
        with proxy(f"localhost:{server}") as at:
            connection = at.connection()
            headers = {"X-Mine": "kept", "Proxy-Authorization": "Basic eDp5", "Proxy-Connection": "keep-alive"}
            connection.request("GET", f"http://localhost:{server}/plain?x=1", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (
                200,
                b"/plain?x=1 ['accept-encoding', 'connection', 'host', 'x-mine']",
            )
            connection.close()

    def test_asks_for_the_top_where_no_path_is_given(self, server: int) -> None:
        with proxy(f"localhost:{server}") as at:
            assert b"\r\n\r\n/ [" in at.say(f"GET http://localhost:{server} HTTP/1.1\r\n\r\n".encode())

    def test_refuses_another_host_in_words_and_tells_it_once(self, server: int) -> None:
        with proxy("localhost:1", "*.example.com") as at:
            for _ in range(3):
                answer = at.say(f"CONNECT localhost:{server} HTTP/1.1\r\n\r\n".encode())
                assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
                assert b"is not among the allowed hosts" in answer
                assert b"They are: localhost:1, *.example.com." in answer
            at.say(b"GET http://evil.test/ HTTP/1.1\r\n\r\n")
        assert at.told == [
            f"Sandbox: localhost:{server} is not among the allowed hosts of this session's schedule: refused.",
            "Sandbox: evil.test:80 is not among the allowed hosts of this session's schedule: refused.",
        ]

    def test_says_when_an_allowed_host_is_not_there(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            with proxy(f"127.0.0.1:{port}") as at:
                answer = at.say(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
                assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
                assert b"can't be reached" in answer

    @pytest.mark.parametrize(
        "said",
        [
            *(b"", b"\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"CONNECT x HTTP/1.1\r\n\r\n"),
            *(
                b"GET ftp://x/ HTTP/1.1\r\n\r\n",
                b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
                b"CONNECT :443 HTTP/1.1\r\n\r\n",
            ),
            *(
                b"GET http://u:p@x/ HTTP/1.1\r\n\r\n",
                b"CONNECT \xff:443 HTTP/1.1\r\n\r\n",
                b"\x16\x03\x01\x02\x00" * 50,
            ),
            b"GET http://x/ HTTP/1.1\r\nX: " + b"x" * 70_000,
        ],
    )
    def test_answers_what_it_does_not_understand(self, said: bytes) -> None:
        with proxy("x") as at, contextlib.suppress(ConnectionResetError):
            assert at.say(said)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 502")

    def test_holds_a_bounded_number_of_connections(self, server: int) -> None:
        with proxy(f"localhost:{server}") as at, contextlib.ExitStack() as held:
            for _ in range(CONNECTIONS):
                held.enter_context(socket.create_connection(("127.0.0.1", at.port)))
            until(lambda: not at.egress._room._value, within=5, what="all are taken")
            waits = held.enter_context(socket.create_connection(("127.0.0.1", at.port), timeout=0.2))
            waits.sendall(f"GET http://localhost:{server}/ HTTP/1.1\r\n\r\n".encode())
            with pytest.raises(TimeoutError):
                waits.recv(10)
