"""The `var` folder: what a running Rota keeps on this machine. Only its owner may look inside."""

import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_LONGEST_SOCKET_PATH = 100  # bytes; the kernel holds 108 on Linux and 104 on macOS, with the NUL
SHORTEST_KEY = 32  # characters


def private_directory(path: Path) -> Path:
    """`path`, made for its owner alone when it is not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret_key(file: Path) -> str:
    """The key in `file` that signs cookies, made at the first call."""
    return _key(file, mend="remove it to get a new one. All must then log in again.")


def secrets_key(file: Path) -> str:
    """The key in `file` that encrypts the table of secrets, made at the first call."""
    return _key(file, mend="put back the one from your backup. Without it, remove the file and set every secret anew.")


def _key(file: Path, *, mend: str) -> str:
    """Processes that start together get the same one."""
    if not file.exists():
        _create(file, secrets.token_urlsafe(48))
    key = file.read_text(encoding="ascii", errors="replace").strip()
    if len(key) < SHORTEST_KEY:
        raise ImproperlyConfigured(f"{file} holds no usable key: {mend}")
    return key


def _create(file: Path, content: str) -> None:
    """Whole or not at all, readable for the owner alone, and never over one that is there."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    made = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(content)
        file.hardlink_to(made)
    except FileExistsError:
        return  # another process was faster: its key is the key
    finally:
        made.unlink()


def socket_path(directory: Path, name: str) -> Path:
    """Where the socket `name` of `directory` is: inside, unless that path is too long for a socket.

    Then it is in a folder whose name is derived from `directory`, below the user's runtime folder
    or the one for temporary files. A folder there that is not ours alone is refused: whoever can
    put a socket in it can pose as the broker.
    """
    if len(os.fsencode(directory / name)) <= _LONGEST_SOCKET_PATH:
        return private_directory(directory) / name
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    short = private_directory(_runtime_directory() / f"rota-{digest}")
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ImproperlyConfigured(
            f"{short} is not a folder of yours alone: remove it, or set ROTA_VAR to a shorter path."
        )
    if len(os.fsencode(short / name)) > _LONGEST_SOCKET_PATH:
        raise ImproperlyConfigured(f"{directory} is too long for a socket: set ROTA_VAR to a shorter path.")
    return short / name


def _runtime_directory() -> Path:
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir() and runtime.stat().st_uid == os.getuid():
        return runtime
    return Path(tempfile.gettempdir())
