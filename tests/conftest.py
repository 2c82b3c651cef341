"""What every test has: real servers on demand, and no process left behind."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
import redis
from django.conf import settings

from config import valkey
from tests.postgres import Postgres
from tests.processes import bounded, end, until

_DATABASE_FIXTURES = frozenset({"db", "transactional_db", "django_db_serialized_rollback"})
_POSTGRES = pytest.StashKey[Postgres]()
_SERVERS: set[int] = set()  # processes that serve more than one test


# The same cases each time, however slow the machine: `bin/test --faults` looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("searching", deadline=None)
hypothesis.settings.load_profile("searching" if os.environ.get("ROTA_TEST_FAULTS") else "steady")


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL when it is asked for: in the first process only, for all of xdist."""
    if "ROTA_TEST_POSTGRES" not in os.environ or hasattr(config, "workerinput"):
        return
    server = Postgres(Path(os.environ["ROTA_TEST_POSTGRES"]))
    server.start()
    config.stash[_POSTGRES] = server
    _SERVERS.add(server.pid)


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(_POSTGRES, None):
        server.stop()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what touches the database, so that it is run on PostgreSQL too."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("django_db") or fixtures & _DATABASE_FIXTURES:
            item.add_marker("database")


@pytest.fixture(scope="session")
def _valkey() -> Iterator[Path]:
    """A broker of this process, at the socket where the settings look for it."""
    socket_path = settings.ROTA_VALKEY_SOCKET
    assert socket_path is not None
    server = subprocess.Popen(
        bounded(valkey.command(socket_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    _SERVERS.add(server.pid)
    until(lambda: _answers(socket_path), within=10, what="Valkey answers")
    yield socket_path
    end(server)


def _answers(socket_path: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(socket_path)) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def broker(_valkey: Path) -> str:
    """The URL, for Celery, of a real and empty broker: the one that the settings name."""
    with redis.Redis(unix_socket_path=str(_valkey)) as client:
        client.flushall()
    return str(settings.CELERY_BROKER_URL)


@pytest.fixture
def no_broker(_valkey: Path) -> Iterator[None]:
    """The socket is gone, as when the broker never started."""
    elsewhere = _valkey.rename(_valkey.with_suffix(".away"))
    yield
    elsewhere.rename(_valkey)


@pytest.fixture
def frozen_broker(_valkey: Path) -> Iterator[None]:
    """It takes connections and answers nothing."""
    server = next(
        process
        for child in psutil.Process().children()
        for process in (child, *child.children())
        if process.name() == "valkey-server"
    )
    server.send_signal(signal.SIGSTOP)
    yield
    server.send_signal(signal.SIGCONT)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """For processes of Rota that a test starts: nothing of ours but the way to programs."""
    # The folder of a test has a name too long for the socket in it.
    with tempfile.TemporaryDirectory(prefix="rota-") as var:
        yield {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(settings.BASE_DIR),
            "ROTA_ENV_FILE": str(tmp_path / ".env"),
            "ROTA_VAR": var,
        }


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, and end that process."""
    yield
    left = [child for child in psutil.Process().children() if child.pid not in _SERVERS]
    _, alive = psutil.wait_procs(left, timeout=1)
    told = [f"{child.pid} {' '.join(child.cmdline())}" for child in alive if child.is_running()]
    for child in alive:
        child.kill()
    assert not told, f"the test left processes behind: {told}"
