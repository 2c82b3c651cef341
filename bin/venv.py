"""Make or mend .venv. Run by venv.sh, with the standard library only: nothing is installed yet."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(root: Path, requirements: str, stamp_file: Path, stamp: str) -> int:
    directory = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another command is making .venv: waiting for it.")
        fcntl.flock(directory, fcntl.LOCK_EX)
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return 0  # that other command did it
    python = root / ".venv" / "bin" / "python"
    if not usable(python):
        if importlib.util.find_spec("ensurepip") is None:
            say(
                f"{sys.executable} can't make a venv: install its venv module "
                "(Debian, Ubuntu: apt-get install python3-venv)."
            )
            return 1
        say(f"Making .venv with Python {sys.version.split()[0]}.")
        shutil.rmtree(root / ".venv", ignore_errors=True)
        if subprocess.run([sys.executable, "-m", "venv", root / ".venv"]).returncode:
            say(f"Could not make {root / '.venv'}: see above.")
            return 1
    say(f"Installing {requirements} into .venv. The first time this takes a minute or two.")
    stamp_file.unlink(missing_ok=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, "--requirement", root / requirements]).returncode:
        say(f"Installing {requirements} failed: mend what pip says above, then start again.")
        return 1
    stamp_file.write_text(stamp)
    return 0


def usable(python: Path) -> bool:
    """Whether there is a Python that runs and has pip: one that was stopped half-way has not."""
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([python, "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    _, root, requirements, stamp_file, stamp = sys.argv
    sys.exit(main(Path(root), requirements, Path(stamp_file), stamp))
