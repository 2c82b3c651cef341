"""bin/manage and bin/up before there is anything of Python's, in a project that needs no package."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the scripts, whose manage.py prints what it is given."""
    shutil.copytree(settings.BASE_DIR / "bin", tmp_path / "bin")
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "manage.py").write_text("import sys; print(sys.prefix, *sys.argv[1:])\n")
    return tmp_path


def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
    )


def programs(folder: Path, **scripts: str) -> str:
    """A PATH of what the scripts need and of these, which are shell scripts."""
    folder.mkdir()
    for name in ("bash", "cat", "cksum", "dirname", "env", "head", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def with_pip_of_ours(folder: Path) -> None:
    """A venv that is whole: to copy pip takes a tenth of what its installation does."""
    venv.create(folder, symlinks=True)
    pip = find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(Path(pip.origin).parent, packages / "pip")


def test_the_venv_is_made_once(project: Path) -> None:
    first = run(project / "bin" / "manage", "check", "two words")
    assert (first.returncode, first.stdout) == (0, f"{project / '.venv'} check two words\n")
    assert first.stderr.splitlines()[-1].startswith("Installing requirements.txt into .venv.")
    again = run(project / "bin" / "manage", "help", PYTHON="/no where/python")
    assert (again.returncode, again.stderr) == (0, "")

    # Other requirements are installed, without a new venv.
    (project / "requirements.txt").write_text("# nothing else\n")
    changed = run(project / "bin" / "manage", "help")
    assert (changed.returncode, "Making" in changed.stderr, "Installing" in changed.stderr) == (0, False, True)


def test_two_at_once_make_one_anew_where_one_is_half_made(project: Path) -> None:
    half = project / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to("/nowhere/python")
    both = [
        subprocess.Popen(
            [project / "bin" / "manage", "help"],
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=50) for process in both]
    told = "".join(error for _, error in said)
    assert [process.returncode for process in both] == [0, 0]
    assert [out for out, _ in said] == [f"{project / '.venv'} help\n"] * 2
    assert told.count("Making .venv") == 1
    assert "Another command is making .venv: waiting for it." in told


def test_a_failed_installation_is_told_and_tried_again(project: Path) -> None:
    (project / "requirements.txt").write_text("./not-there\n")
    with_pip_of_ours(project / ".venv")
    for _ in range(2):
        failed = run(project / "bin" / "manage", "help")
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.splitlines()[-1] == (
            "Installing requirements.txt failed: mend what pip says above, then start again."
        )


def test_too_old_a_python_is_refused(project: Path) -> None:
    old = 'test "$1" = --version && echo Python 3.9.2'
    path = programs(project / "programs", python3=old, git="exit 0")
    refused = run(project / "bin" / "up", PATH=path, PYTHON="")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Rota needs Python 3.11 or newer, and python3 is Python 3.9.2: install one, or ")
    assert len(refused.stderr.splitlines()) == 1


def test_no_python_at_all_is_told(project: Path) -> None:
    refused = run(project / "bin" / "up", PATH=programs(project / "programs", git="exit 0"), PYTHON="")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Rota needs Python 3.11 or newer, and python3 is not there: install one, or ")
    assert len(refused.stderr.splitlines()) == 1


def test_the_named_python_is_the_one(project: Path) -> None:
    refused = run(project / "bin" / "manage", "help", PYTHON="/no where/python")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Rota needs Python 3.11 or newer, and /no where/python is not there: ")


def test_a_missing_git_is_told(project: Path) -> None:
    refused = run(project / "bin" / "up", PATH=programs(project / "programs"))
    assert (refused.returncode, refused.stderr) == (
        1,
        "Rota needs git: install it (Debian, Ubuntu: apt-get install git) and start again.\n",
    )
