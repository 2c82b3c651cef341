"""Rota as processes of its own, to be killed, stopped and cut off, over the database of the test.

The agents of these tests are scripts that append a line to one file (`O_APPEND`): the number of lines is the number of
starts, whatever the rows say.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import redis

from config import valkey, var
from schedules.models import Schedule, Session, WorkerHeartbeat
from tests.processes import bounded, end, until
from tests.schedules.factories import make_schedule
from tests.schedules.management.terminal import environment

ROOT = Path(__file__).parents[2]
_UP_WITHIN = 40  # seconds, on a machine that is busy with other tests


class House:
    """What `bin/up` starts, one by one. Everything it starts ends with the block that made it."""

    def __init__(self, var_folder: Path, **more: str) -> None:
        self.var = var_folder
        self.socket = var.socket_path(var_folder / "valkey", "valkey.sock")
        self.starts_file = var_folder / "starts"
        self.starts_file.touch()
        self._environment = environment(
            **{
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "PYTHONPATH": str(ROOT),
                "ROTA_VAR": str(var_folder),
                "ROTA_MAX_SESSIONS": "100",
                "ROTA_MAX_SESSIONS_PER_REPOSITORY": "100",
                **more,
            }
        )
        self._running: list[subprocess.Popen[bytes]] = []
        self._numbers: Counter[str] = Counter()
        self._broker: subprocess.Popen[bytes] | None = None

    # --- processes

    def start(self, *command: str, log: str, **more: str) -> subprocess.Popen[bytes]:
        """`python …` in the house's surroundings. What it prints goes to a file in `var`."""
        with (self.var / f"{log}.log").open("ab") as said:
            # Without a `timeout` in front: signals are meant for the process itself. Its life is bound by `close`.
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self._environment | more,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def run(self, *command: str) -> None:
        """`manage.py …`, to its end."""
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *command],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )

    def beat(self, *, harm: str = "") -> subprocess.Popen[bytes]:
        before = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT).count()
        process = self.start(*_celery(harm), "beat", log="beat")
        beats = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT)
        until(lambda: beats.count() > before, within=_UP_WITHIN, what="beat is there", said=partial(self.said, "beat"))
        return process

    def worker(
        self, kind: str = "sessions", *, concurrency: int = 4, harm: str = "", drain: bool = False, **more: str
    ) -> subprocess.Popen[bytes]:
        """One that is ready. It serves `kind`, sessions or control; `harm` is one of `tests.faults.saboteur`."""
        self._numbers[kind] += 1
        name = f"{kind}{self._numbers[kind]}"
        process = self.start(
            *_celery(harm),
            *("worker", *_WORKER),
            *("--queues", kind, "--hostname", f"{name}@%h", "--concurrency", str(concurrency)),
            *(("--drain",) if drain else ()),
            log=name,
            **more,
        )
        rows = WorkerHeartbeat.objects.filter(pid=process.pid, stopped_at=None)
        until(rows.exists, within=_UP_WITHIN, what=f"{name} is ready", said=partial(self.said, name))
        return process

    def start_all(self) -> None:
        """Both workers and beat, over a database that is not the test's; nobody waits for them."""
        for kind in ("sessions", "control"):
            self.start(*_celery(""), "worker", *_WORKER, "--queues", kind, "--hostname", f"{kind}@%h", log=kind)
        self.start(*_celery(""), "beat", log="beat")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """As the kernel does when memory is short: no goodbye, and its children go on."""
        process.kill()
        process.wait(timeout=10)

    def said(self, log: str) -> str:
        """The last of it."""
        return self.log(log)[-3000:]

    def log(self, log: str) -> str:
        file = self.var / f"{log}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    # --- the broker

    def start_broker(self) -> None:
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._broker = subprocess.Popen(
            bounded(valkey.command(self.socket)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._broker_answers, within=10, what="the broker answers")

    def stop_broker(self) -> None:
        """At once, and with all that is in it."""
        if self._broker is not None:
            os.killpg(self._broker.pid, signal.SIGKILL)
            self._broker.wait()
            self._broker = None
            self.socket.unlink(missing_ok=True)

    @contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            yield client

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.socket}"

    def _broker_answers(self) -> bool:
        try:
            with self.broker() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    # --- what ran

    def schedule(self, name: str = "", *, script: str = "", now: datetime | None = None, **fields: Any) -> Schedule:
        """One whose sessions tell that they start, and then do what `script` says."""
        argv = ["sh", "-c", f'echo "$ROTA_SESSION" >> {self.starts_file}; {script or "echo done"}']
        fields = {"cron": "", "timeout": _LONGEST, "silence": None, "max_sessions": 100, **fields}
        return make_schedule(name, now=now or datetime.now(UTC), argv=argv, **fields)

    def starts(self) -> Counter[int]:
        """How often the process of each session was started, by what the processes themselves wrote."""
        lines = self.starts_file.read_text().split()
        return Counter(int(Path(line).name) for line in lines)

    def alive(self) -> list[psutil.Process]:
        """Processes of its sessions."""
        return [
            process
            for process in psutil.process_iter(["environ"])
            if str(self.var) in (process.info["environ"] or {}).get("ROTA_SESSION", "")
        ]

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                end(process)
        self.stop_broker()
        for left in self.alive():
            left.kill()


def _celery(harm: str) -> tuple[str, ...]:
    return ("-m", *(("tests.faults.saboteur", harm) if harm else ("celery",)), "--app", "config", "--quiet")


_WORKER = ("--without-mingle", "--without-gossip", "--pool", "threads")
_LONGEST = Schedule._meta.get_field("timeout").get_default()


@contextmanager
def house(**more: str) -> Iterator[House]:
    """A house with a broker and nobody in it yet."""
    with ExitStack() as stack:
        # The folder of a test has a name too long for the socket in it.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rota-", ignore_cleanup_errors=True))
        made = House(Path(folder), **more)
        stack.callback(made.close)
        made.start_broker()
        yield made


def all_ended(count: int) -> bool:
    """So many sessions, and all are over."""
    return Session.objects.count() == count and not Session.objects.open().exists()


def every_session_once() -> Counter[int]:
    """What `starts` is where nothing started twice, and nothing not at all."""
    return Counter(Session.objects.values_list("pk", flat=True))


def last_start() -> datetime:
    """When the last of the sessions' processes was started."""
    return max(at for at in Session.objects.values_list("started_at", flat=True) if at)


def bounded_part(whole: int, part: int) -> int:
    """How much of it to do: `whole` with `bin/test --faults`, else `part`."""
    return whole if os.environ.get("ROTA_TEST_FAULTS") else part
