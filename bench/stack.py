"""All of Rota, as `bin/up` starts it, in a place of its own that is gone afterwards."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from config import valkey, var
from tests.postgres import Postgres
from tests.processes import bounded, end, until

ROOT = Path(__file__).resolve().parent.parent
_READY_WITHIN = 90.0  # seconds
_ENDED_WITHIN = 25.0


@contextmanager
def surroundings(database: str, **settings: str) -> Iterator[dict[str, str]]:
    """An environment that has nothing of ours but the way to programs, and a temporary folder to work in.

    `database` is `sqlite` or `postgres`: a server on a socket, without fsync.
    """
    with tempfile.TemporaryDirectory(prefix="rota-bench-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        environment = {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "LOG_LEVEL": "WARNING",
            "PATH": os.environ["PATH"],
            "PORT": str(_free_port()),
            "PYTHONPATH": str(ROOT),
            "ROTA_ENV_FILE": str(folder / "no.env"),
            "ROTA_REHEARSE": "true",
            "ROTA_VAR": str(folder / "var"),
            "TMPDIR": tempfile.gettempdir(),  # a socket may lie there
            **settings,
        }
        if database == "sqlite":
            yield environment
            return
        with _postgres() as url:
            yield {**environment, "DATABASE_URL": url}


@contextmanager
def broker(environment: Mapping[str, str]) -> Iterator[None]:
    """The Valkey that the settings look for in these surroundings, and nothing else of Rota."""
    socket = var.socket_path(Path(environment["ROTA_VAR"]) / "valkey", "valkey.sock")
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = subprocess.Popen(bounded(valkey.command(socket)), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until(socket.exists, within=10, what="Valkey answers")
        yield
    finally:
        end(server)
        shutil.rmtree(socket.parent, ignore_errors=True)  # elsewhere where the path was too long for a socket


def run(command: list[str], environment: Mapping[str, str], *, within: float) -> subprocess.CompletedProcess[str]:
    """Python with these arguments in these surroundings, for so many seconds at most. Raises what subprocess does."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=within,
    )


@contextmanager
def running(environment: dict[str, str]) -> Iterator[None]:
    """`bin/up` in these surroundings, from when beat and workers are at work until all has ended."""
    log = Path(environment["ROTA_VAR"]).with_name("up.log")
    with log.open("wb") as said:
        up = subprocess.Popen(
            bounded([sys.executable, "-m", "config.up"]),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: _is_ready(up, log, int(environment["PORT"])), within=_READY_WITHIN, what="Rota is ready")
        yield
    finally:
        _end(up)


@contextmanager
def celery(*arguments: str) -> Iterator[psutil.Process]:
    """`celery …`, as `bin/up` starts it, in this process's own surroundings, for as long as the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", *arguments, "--loglevel", "WARNING"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=_ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(up: subprocess.Popen[bytes], log: Path, port: int) -> bool:
    if up.poll() is not None:
        raise RuntimeError(f"bin/up ended by itself:\n{log.read_text(errors='replace')[-2000:]}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(up: subprocess.Popen[bytes]) -> None:
    """Ctrl-C. Whoever does not heed it is killed; what it started ends with it."""
    up.send_signal(signal.SIGINT)
    try:
        up.wait(timeout=_ENDED_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(up.pid, signal.SIGKILL)
        up.wait()


@contextmanager
def _postgres() -> Iterator[str]:
    """The URL of a server that runs for as long as the block. Its folder lies where another user can reach it."""
    with tempfile.TemporaryDirectory(prefix="rota-pg-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            server.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
