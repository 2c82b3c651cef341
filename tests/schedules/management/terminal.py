"""A command in a process of its own, on a terminal or without one, with the database and broker of the tests."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from django.conf import settings
from django.db import connection

from tests.processes import bounded, until

_ROOT = Path(__file__).parents[3]
# Makes the terminal on standard input the one that Ctrl-C comes from, then becomes manage.py.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def environment(**more: str) -> dict[str, str]:
    """All that the process is given: nothing of the tests' own environment but where programs are."""
    database = connection.settings_dict
    name = database["NAME"]
    sqlite = connection.vendor == "sqlite"
    url = (
        f"sqlite:///{name}"
        if sqlite
        else f"postgresql://postgres@/{name}?host={database['HOST'] or database['OPTIONS']['host']}"
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "ROTA_ENV_FILE": os.environ["ROTA_ENV_FILE"],
        "ROTA_VAR": str(settings.ROTA_VAR),
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": url,
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "24",
        **more,
    }


def command(*arguments: str) -> list[str]:
    return [str(_ROOT / "manage.py"), *arguments]


def without_terminal(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
    """The command with pipes."""
    return subprocess.Popen(
        bounded([sys.executable, *command(*arguments)]),
        cwd=_ROOT,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class OnTerminal:
    """The command on a pseudo-terminal, from `with` to the end of its block."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.screen = ""  # all that was written to it

    def __enter__(self) -> Self:
        self._master, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *command(*self._arguments)],
            cwd=_ROOT,
            env=environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def shows(self, text: str) -> None:
        """Wait until the text is on the screen."""
        until(lambda: text in self._read(), within=15, what=f"{text!r} is shown; there is: {self.screen!r}")

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self) -> int:
        """Its exit code."""
        deadline = time.monotonic() + 15
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.screen!r}"
            self._read()
        self._read()
        return self._process.returncode

    def _read(self) -> str:
        while select.select([self._master], [], [], 0.02)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux's word for the end
                break
            if not data:
                break
            self.screen += data.decode(errors="replace")
        return self.screen
