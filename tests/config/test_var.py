"""The var folder: who may look inside, the key in it, and how long a path a socket can have."""

import multiprocessing
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import var

DEEP = Path(*["deep"] * 30)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_the_folder_is_private(tmp_path: Path) -> None:
    assert mode(var.private_directory(tmp_path / "var")) == "0o700"


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    with multiprocessing.get_context("fork").Pool(8) as pool:
        keys = pool.map(var.secret_key, [file] * 64, chunksize=1)
        pool.close()
        pool.join()
    assert len(set(keys)) == 1
    assert len(keys[0]) >= 50
    assert mode(file) == "0o600"
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_text("short\n")
    with pytest.raises(ImproperlyConfigured, match="holds no usable key: remove it"):
        var.secret_key(file)
    with pytest.raises(ImproperlyConfigured, match="holds no usable key: put back the one from your backup"):
        var.secrets_key(file)


def test_the_key_of_the_secrets_is_another_one(tmp_path: Path) -> None:
    key = var.secrets_key(tmp_path / "secrets_key")
    assert key == var.secrets_key(tmp_path / "secrets_key") != var.secret_key(tmp_path / "secret_key")
    assert mode(tmp_path / "secrets_key") == "0o600"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket."""
    with tempfile.TemporaryDirectory(prefix="rota-") as name:
        yield Path(name)


def test_a_socket_lies_in_its_folder(short: Path) -> None:
    assert var.socket_path(short / "valkey", "s.sock") == short / "valkey" / "s.sock"
    assert mode(short / "valkey") == "0o700"


def test_a_path_too_long_for_a_socket_is_moved(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    path = var.socket_path(short / DEEP, "s.sock")
    assert path.parent.parent == short
    assert path == var.socket_path(short / DEEP, "s.sock"), "other processes must find it"
    assert path != var.socket_path(short / DEEP / "other", "s.sock")
    assert mode(path.parent) == "0o700"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def test_a_folder_for_the_socket_that_others_can_open_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    var.socket_path(short / DEEP, "s.sock").parent.chmod(0o755)
    with pytest.raises(ImproperlyConfigured, match="is not a folder of yours alone"):
        var.socket_path(short / DEEP, "s.sock")


def test_a_link_in_place_of_that_folder_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    place = var.socket_path(short / DEEP, "s.sock").parent
    place.rename(short / "elsewhere")
    place.symlink_to(short / "elsewhere")
    with pytest.raises(ImproperlyConfigured, match="is not a folder of yours alone"):
        var.socket_path(short / DEEP, "s.sock")


def test_no_place_short_enough_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(var.private_directory(tmp_path / DEEP)))
    with pytest.raises(ImproperlyConfigured, match="too long for a socket: set ROTA_VAR"):
        var.socket_path(tmp_path / DEEP, "s.sock")
