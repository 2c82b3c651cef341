"""All of Rota on this machine, by one command: `bin/up`.

Checks what must be right, prepares the database, starts broker, web, beat and workers, says where
it answers once it does, and ends all of them with itself. The reasons are in
docs/decisions/0003-one-command.md.
"""

import argparse
import errno
import http.client
import io
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError

from config import env, valkey
from config.celery import app
from config.instance import AlreadyRuns, Instance
from config.supervisor import Program, Stopping, Supervisor
from runners import kill
from schedules.agents import agents, rehearsed_agents

# Seconds. A slow machine needs ten to import everything five times.
_BROKER_WITHIN = 10.0
_PAGE_WITHIN = 60.0
_READY_WITHIN = 60.0

_SESSIONS = "sessions"
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "LOG_TIMES": "false", "CELERY_SKIP_CHECKS": "true"}


class Refused(Exception):
    """Rota can't run. The text says why, and what to do."""


@dataclass(frozen=True)
class Address:
    """Where the web process answers."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = self._reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def shows_login(self) -> bool:
        return self._status("/admin/login/") == 200

    def is_ready(self) -> bool:
        return self._status("/readyz") == 200

    @property
    def _reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def _status(self, path: str) -> int:
        """With which the page answers; 0 when it does not within a few seconds."""
        name = "".join(settings.ALLOWED_HOSTS[:1]).lstrip(".*") or "localhost"
        connection = http.client.HTTPConnection(self._reachable_host, self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": name})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def main() -> int:
    argparse.ArgumentParser(
        prog="bin/up",
        description="Runs all of Rota on this machine, until Ctrl-C.",
        epilog="Settings come from the environment or .env: see .env.example.",
    ).parse_args()
    try:
        with Instance(settings.ROTA_VAR) as instance:
            return _run(instance)
    except (AlreadyRuns, ImproperlyConfigured, Refused) as error:
        print(f"bin/up: {error}", file=sys.stderr)
        return 1


def _run(instance: Instance) -> int:
    address = Address(
        host=env.text("HOST", "127.0.0.1"),
        port=env.number("PORT", default=8700, least=1, most=65535),
    )
    broker, others = _broker(), _others(address)
    with Supervisor(program.name for program in broker + others) as supervisor:
        if left := instance.end_leftovers():
            supervisor.say(f"Ended what an earlier bin/up could not: {', '.join(left)}.")
        refuse_taken(address)

        def start(programs: list[Program]) -> None:
            for program in programs:
                supervisor.start(program)
                instance.note(url=address.url, pids=supervisor.pids)

        try:
            start(broker)
            is_new = _prepare(supervisor)
            if not supervisor.wait_until(_broker_answers, within=_BROKER_WITHIN):
                raise Refused("The broker does not answer: start it, or mend REDIS_URL.")
            start(others)
            if not supervisor.wait_until(address.shows_login, within=_PAGE_WITHIN):
                raise Refused(f"{address.url} does not answer: the lines above may say why.")
            supervisor.say(_welcome(address, password=_first_account() if is_new else ""))
            if supervisor.wait_until(address.is_ready, within=_READY_WITHIN):
                supervisor.say("Beat and workers are at work.")
            else:
                supervisor.say(f"Not everything is at work: {address.url}readyz says what is missing.")
            supervisor.run()
        except Stopping:
            supervisor.say("Stopping.")
    if supervisor.fallen != _SESSIONS:  # else they wait for the next worker, under their shims
        _end_sessions(settings.ROTA_SESSIONS_DIR)
    return 1 if supervisor.fallen else 0


def refuse_taken(address: Address) -> None:
    """Raise Refused when nothing can listen there."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refused(
                f"Port {address.port} on {address.host} is in use: stop the program that has it, "
                f"or choose another port: PORT={address.port + 1} bin/up"
            ) from None
        raise Refused(
            f"Can't listen on {address.host}, port {address.port} ({error.strerror}): choose others with HOST and PORT."
        ) from None


def _broker() -> list[Program]:
    """The embedded one, when no other is named."""
    if settings.ROTA_VALKEY_SOCKET is None:
        return []
    return [
        Program(
            "valkey",
            valkey.command(settings.ROTA_VALKEY_SOCKET),
            hint=f"{valkey.log_file(settings.ROTA_VALKEY_SOCKET)} may say why.",
            ends_last=True,  # the others may still have something to send
            is_ours=False,
        )
    ]


def _others(address: Address) -> list[Program]:
    celery = [sys.executable, "-m", "celery", "--app", "config", "--quiet"]
    worker = [*celery, "worker", "--without-mingle", "--without-gossip", "--pool", "threads"]
    web = [
        *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--lifespan", "off"),
        *("--host", address.host, "--port", str(address.port)),
        # A browser that follows a session keeps its connection open: uvicorn would wait for it.
        *("--timeout-graceful-shutdown", "2"),
        *("--log-level", "warning", "--no-access-log"),
    ]
    sessions = [
        *(*worker, "--queues", "sessions", "--hostname", "sessions@%h"),
        *("--concurrency", str(settings.ROTA_MAX_SESSIONS)),
    ]
    control = [
        *(*worker, "--queues", "control", "--hostname", "control@%h"),
        *("--concurrency", "4"),
    ]
    return [
        Program("web", web, _ENVIRONMENT),
        Program(_SESSIONS, sessions, _ENVIRONMENT | {"ROTA_END_SESSIONS_ON_EXIT": "true"}),
        Program("control", control, _ENVIRONMENT),
        Program("beat", [*celery, "beat"], _ENVIRONMENT),
    ]


def _end_sessions(folder: Path) -> None:
    """End what is left of sessions whose worker got no time to do it."""
    for session in folder.glob("[0-9]*"):
        if (session / "process.json").exists() and not (session / "ending.json").exists():
            kill(session)


def _prepare(supervisor: Supervisor) -> bool:
    """Bring the database up to date. True when nobody has an account in it yet."""
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import DatabaseError, connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        executor = MigrationExecutor(connection)
        if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
            supervisor.say(f"Preparing the database: {len(plan)} migrations.")
            call_command("migrate", verbosity=0, interactive=False)
        is_new = not get_user_model()._default_manager.exists()
    except DatabaseError as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(f"The database can't be used ({reason}): mend DATABASE_URL.") from error
    if is_new:
        supervisor.say("Registering this checkout and the example schedules.")
        call_command("loadexamples", stdout=io.StringIO())
    connection.close()
    return is_new


def _first_account() -> str:
    """The password of the account that is made for the one who starts Rota first."""
    from django.contrib.auth import get_user_model
    from django.db import connection

    password = secrets.token_urlsafe(12)
    get_user_model()._default_manager.create_superuser("admin", "", password)
    connection.close()
    return password


def _welcome(address: Address, *, password: str) -> str:
    lines = [f"Rota is at {address.url}"]
    if password:
        lines += [
            f"Log in as admin with the password {password}",
            "It is shown this once; bin/manage changepassword admin sets another.",
        ]
    if rehearsing := rehearsed_agents():
        are_all = len(rehearsing) == len(list(agents()))
        who = "Agents are" if are_all else f"Schedules of {' and '.join(rehearsing)} are"
        mend = " or ".join(sorted({reason.mend for reason in rehearsing.values()}))
        lines += [
            f"{who} rehearsed: a scripted model on this machine answers them, at no cost, and nothing is",
            f"delivered. Set {mend} in the environment or in .env to let them work.",
        ]
    if os.geteuid() == 0:
        lines.append("It runs as root, and so do its sessions: a user of its own is safer.")
    return "\n".join([*lines, "Ctrl-C ends it."])


def _broker_answers() -> bool:
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except OperationalError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
