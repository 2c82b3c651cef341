"""bin/up's program: one sentence where it can't run, and all of Rota where it can."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import until

Up = Callable[..., "Running"]


def command() -> list[str]:
    return [sys.executable, "-m", "config.up"]


def refusal(environment: dict[str, str], **settings: str) -> str:
    done = subprocess.run(
        command(),
        cwd=environment["PYTHONPATH"],
        env=environment | settings,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bin/up: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("bin/up: ").strip()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_port_in_use_is_told(environment: dict[str, str], taken: int) -> None:
    assert refusal(environment, PORT=str(taken)) == (
        f"Port {taken} on 127.0.0.1 is in use: stop the program that has it, "
        f"or choose another port: PORT={taken + 1} bin/up"
    )


def test_an_address_that_is_not_ours_is_told(environment: dict[str, str], free: int) -> None:
    told = refusal(environment, HOST="192.0.2.1", PORT=str(free))
    assert told.startswith(f"Can't listen on 192.0.2.1, port {free} (")
    assert told.endswith("): choose others with HOST and PORT.")


def test_a_broken_env_file_is_told(environment: dict[str, str]) -> None:
    Path(environment["ROTA_ENV_FILE"]).write_text("# mine\nPORT : 8700\n")
    assert refusal(environment) == (
        ".env, line 2: is not NAME=value: write it without blanks around =, or put # first."
    )


def test_a_database_that_is_away_is_told(environment: dict[str, str], free: int) -> None:
    url = "postgresql://rota:topsecret@127.0.0.1:1/rota"
    told = refusal(environment, PORT=str(free), DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:1")
    assert told.startswith("The database can't be used (")
    assert told.endswith("): mend DATABASE_URL.")
    assert "topsecret" not in told


def test_it_takes_no_arguments(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*command(), "--port", "1"], cwd=environment["PYTHONPATH"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "usage: bin/up" in done.stderr


class Running:
    """bin/up's program, and what it printed so far."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command(), cwd=environment["PYTHONPATH"], env=environment, stdout=stream, stderr=subprocess.STDOUT
            )
        self.url = f"http://127.0.0.1:{environment['PORT']}/"

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_until_at_work(self) -> None:
        until(lambda: "Beat and workers are at work." in self.said, within=50, what=f"at work: {self.said}")

    def everybody(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=15)


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path, free: int) -> Iterator[Up]:
    begun: list[Running] = []

    def start(**settings: str) -> Running:
        log = tmp_path / f"up-{len(begun)}.log"
        begun.append(Running(environment | {"PORT": str(free)} | settings, log))
        return begun[-1]

    yield start
    for running in begun:
        running.stop()


def log_in(url: str, *, password: str) -> str:
    """Where a log-in leads."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    page = browser.open(f"{url}admin/login/", timeout=10).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": password, "next": "/admin/"}
    with browser.open(f"{url}admin/login/", urllib.parse.urlencode(form).encode(), timeout=10) as answer:
        led_to: str = answer.url
    return led_to


def checks(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}readyz", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["checks"]
    return found


@pytest.mark.timeout(300)
def test_a_newcomer_gets_a_rota_that_works_and_ends_whole_in_every_way(up: Up, environment: dict[str, str]) -> None:
    first = up()
    first.wait_until_at_work()
    assert f"rota     | Rota is at {first.url}" in first.said
    assert "Agents are rehearsed" in first.said
    password = re.findall(r"Log in as admin with the password (\S+)", first.said)
    assert len(password) == 1
    assert log_in(first.url, password=password[0]) == f"{first.url}admin/"
    assert all(check["ok"] for check in checks(first.url).values())

    # Another one in the same checkout refers to it, and does no harm.
    told = refusal(environment)
    assert told.startswith(f"Rota runs here already, at {first.url}: ")
    assert str(first.process.pid) in told
    assert first.process.poll() is None

    everybody = first.everybody()
    assert len(everybody) >= 5
    began = time.monotonic()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(timeout=15) == 0
    assert time.monotonic() - began < 10
    assert not any(process.is_running() for process in everybody)

    # The second time nothing is made again.
    second = up()
    second.wait_until_at_work()
    assert "password" not in second.said
    assert "Preparing" not in second.said
    assert "Registering" not in second.said
    assert log_in(second.url, password=password[0]) == f"{first.url}admin/"

    # Nothing stays of it when it is killed itself.
    everybody = second.everybody()
    assert len(everybody) >= 5
    second.process.kill()
    assert psutil.wait_procs(everybody, timeout=10)[1] == []

    # It comes up again, and a part that dies takes all down and is named.
    third = up()
    third.wait_until_at_work()
    everybody = third.everybody()
    beat = next(process for process in everybody if process.cmdline()[-1] == "beat")
    beat.kill()
    assert third.process.wait(timeout=15) == 1
    assert "beat ended by itself (signal SIGKILL)." in third.said
    assert not any(process.is_running() for process in everybody)
