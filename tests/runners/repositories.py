"""Real git repositories for tests, made by real git, without the configuration of the machine."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
}


class Source:
    """A repository that people work in: the one that Rota is told of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        return str(self.path)

    def git(self, *arguments: str) -> str:
        return run_git(self.path, *arguments, environment=IDENTITY)

    def commit(self, files: Mapping[str, str | bytes], message: str = "Change") -> str:
        """Write the files, commit everything, and give the commit."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def run_git(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    stdin: str = "",
) -> str:
    """What git says in a folder, as a person or an agent would start it there."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/dev/null",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **(environment or {}),
        },
        input=stdin,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert not check or done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()
