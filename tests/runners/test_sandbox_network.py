"""What sessions reach from their sandboxes: nothing, the allowed hosts, or all."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.base import Launch
from runners.environment import session_environment
from runners.sandbox import Sandbox
from tests.runners.held import Held, make_spec
from tests.runners.sandboxed import NO_NETWORK, begin, hold, needs_sandbox, said


@pytest.fixture
def service() -> Iterator[int]:
    """A server on the machine's loopback that says hello: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


GET = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
except OSError as error:
    print(error, error.read().decode() if hasattr(error, "read") else "")
"""
TUNNEL = """
import http.client, os, sys
host, _, port = os.environ["HTTPS_PROXY"].removeprefix("http://").partition(":")
connection = http.client.HTTPConnection(host, int(port), timeout=10)
connection.set_tunnel(sys.argv[1], int(sys.argv[2]))
try:
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
except OSError as error:
    print(error)
"""


@needs_sandbox
class TestNetwork:
    def python(self, tmp_path: Path, program: str, *arguments: object, within: Sandbox) -> Held:
        spec = make_spec(tmp_path, options={})
        argv = [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]
        environment = session_environment(home=spec.home, extra={})
        return begin(spec, Launch(argv=argv, environment=environment), within)

    def test_is_the_worker_s_where_nothing_else_is_said(self, tmp_path: Path, service: int) -> None:
        url = f"http://127.0.0.1:{service}/"
        assert said(self.python(tmp_path, GET, url, within=Sandbox())) == "hello"

    def test_none_has_loopback_alone_and_no_route(self, tmp_path: Path, service: int) -> None:
        program = "sed 1,2d /proc/net/dev | cut -d: -f1; sed 1d /proc/net/route; cat /etc/resolv.conf 2>/dev/null; "
        told = said(hold(tmp_path, f"{program} {sys.executable} -ISc '{GET}' http://127.0.0.1:{service}/"))
        assert " ".join(told.split()) == "lo <urlopen error [Errno 111] Connection refused>"

    def test_none_has_a_loopback_that_works(self, tmp_path: Path) -> None:
        program = (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); "
            "socket.create_connection(s.getsockname()); print('met')"
        )
        assert said(self.python(tmp_path, program, within=NO_NETWORK)) == "met"

    def test_an_allow_list_lets_its_host_through(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        assert said(self.python(tmp_path, TUNNEL, "localhost", service, within=within)) == "hello"

    def test_an_allow_list_refuses_another_host_in_a_clear_line(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=["api.example.com", "localhost:1"])
        held = self.python(tmp_path, TUNNEL, "localhost", service, within=within)
        assert held.end().exit_code == 0
        assert held.texts() == [b"Tunnel connection failed: 403 Forbidden"]
        assert held.texts("err") == [
            f"Sandbox: localhost:{service} is not among the allowed hosts of this session's schedule: refused.".encode()
        ]

    def test_an_allow_list_has_no_way_around_it(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        told = said(self.python(tmp_path, GET, f"http://127.0.0.1:{service}/", within=within))
        assert "Connection refused" in told

    def test_programs_find_the_proxy_by_their_environment(self, tmp_path: Path, service: int) -> None:
        get = f"NO_PROXY= no_proxy= {sys.executable} -ISc '{GET}' http://localhost:{service}/"
        program = f"{get}; env | grep -ic '^https*_proxy='"
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        assert said(hold(tmp_path, program, within=within)) == "hello\n4"

    def test_the_way_out_ends_with_the_program_whatever_is_open(self, tmp_path: Path, service: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            program = "import os, threading, time\n" + TUNNEL.replace(
                'connection.request("GET", "/")', "connection.connect(); os._exit(0)"
            )
            within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{port}"])
            begun = time.monotonic()
            assert said(self.python(tmp_path, program, "localhost", port, within=within)) == ""
            assert time.monotonic() - begun < 10
