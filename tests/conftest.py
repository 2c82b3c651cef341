"""What every test has: real servers on demand, and no process left behind."""

import contextlib
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
from runners.starting import forker
from tests.postgres import Postgres
from tests.processes import bounded, end, until

_DATABASE_FIXTURES = frozenset({"db", "transactional_db", "django_db_serialized_rollback"})
_POSTGRES = pytest.StashKey[Postgres]()
_SERVERS: set[int] = set()  # processes that serve more than one test
_SEEN: set[int] = set()  # every process of the machine, as the last test ended


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


# What `bin/test` runs on SQLite alone: it makes rows to look at something else, and no more than these plain reads and
# writes meets the database. The rest, and all of tests/faults, runs on PostgreSQL too (docs/decisions/0016).
_ONE_DATABASE = (
    "tests/end_to_end/test_shutdown.py::test_sessions_outlive",  # tests/faults kills workers on both
    "tests/schedules/admin/test_browser.py",  # the pages' scripts
    "tests/schedules/admin/test_schedule_actions.py",  # forms, and what they call
    "tests/schedules/admin/test_schedule_form.py",
    "tests/schedules/admin/test_secrets.py",
    "tests/schedules/management/commands/test_incidents.py",  # arguments, and what is printed
    "tests/schedules/management/commands/test_loadexamples.py",
    "tests/schedules/management/commands/test_runschedule_process.py",
    "tests/schedules/management/commands/test_secret.py",
    "tests/schedules/management/commands/test_workspaces.py",
    "tests/schedules/management/test_report.py",
    "tests/schedules/manifests/test_examples.py",  # files
    "tests/schedules/test_conversations.py",  # agents, files and git, around sessions that test_execution has on both
    "tests/schedules/test_full_disk.py",
    "tests/schedules/test_interrupted.py",
    "tests/schedules/test_leaks.py",
    "tests/schedules/test_limits_of_real_sessions.py",
    "tests/schedules/test_postconditions.py",
    "tests/schedules/test_prompts.py",
    "tests/schedules/test_safekeeping.py",
    "tests/schedules/test_workplace.py",
    "tests/schedules/test_workspace_policies.py",
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is to run on PostgreSQL too, and what is not to be traced."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        touches = item.get_closest_marker("django_db") or fixtures & _DATABASE_FIXTURES
        if touches and not item.nodeid.startswith(_ONE_DATABASE):
            item.add_marker("database")
        if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            # Hundreds of examples take the same lines again and again, at twice the price when each is counted.
            item.add_marker("no_cover")


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
    """Fail a test that leaves a process behind, and end that process. Shims are children of the forker, which stays."""
    yield
    left = _new_children()
    _, alive = psutil.wait_procs(left, timeout=1)
    told = [f"{child.pid} {' '.join(child.cmdline())}" for child in alive if child.is_running()]
    for child in alive:
        child.kill()
    _SEEN.clear()
    _SEEN.update(psutil.pids())
    assert not told, f"the test left processes behind: {told}"


def _new_children() -> list[psutil.Process]:
    """Ours and the forker's, but for what was there after the test before: to read of all takes milliseconds."""
    found = []
    parents = {os.getpid(), forker.pid} - {0}
    for pid in set(psutil.pids()) - _SEEN - _SERVERS - parents:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.ppid() in parents:
                found.append(process)
    return found
