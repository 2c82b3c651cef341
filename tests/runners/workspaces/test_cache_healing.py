"""A cache that was damaged, or whose worker was killed, is whole again after the next fetch."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runners.base import WorkspaceError
from runners.workspaces import Cache, prepare
from runners.workspaces.git import GitFailed
from runners.workspaces.locks import Busy, locked
from tests.processes import until
from tests.runners.repositories import Source
from tests.runners.workspaces.caches import branches, is_sound
from tests.runners.workspaces.workers import worker

REFRESH = """
from pathlib import Path
from runners.workspaces import Cache
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
cache.refresh("acme", sys.argv[2])
print("done", flush=True)
"""


def _remove_head(path: Path) -> None:
    (path / "HEAD").unlink()


def _remove_state(path: Path) -> None:
    (path / "rota.json").unlink()


def _remove_packs(path: Path) -> None:
    for pack in (path / "objects" / "pack").iterdir():
        pack.unlink()


def _truncate_pack(path: Path) -> None:
    for pack in (path / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:40])


def _zero_pack(path: Path) -> None:
    for pack in (path / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(bytes(pack.stat().st_size))


def _empty_ref(path: Path) -> None:
    (path / "refs" / "remotes" / "origin" / "main").write_bytes(b"")


def _zero_ref(path: Path) -> None:
    (path / "refs" / "remotes" / "origin" / "main").write_bytes(bytes(41))


def _garble_config(path: Path) -> None:
    (path / "config").write_bytes(b"\0[[[")


def _garble_packed_refs(path: Path) -> None:
    (path / "packed-refs").write_bytes(b"\0\1garbage\n")


def _remove_objects(path: Path) -> None:
    shutil.rmtree(path / "objects")


def _only_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a repository")


@pytest.mark.parametrize(
    "damage",
    [
        _remove_head,
        _remove_state,
        _remove_packs,
        _truncate_pack,
        _zero_pack,
        _empty_ref,
        _zero_ref,
        _garble_config,
        _garble_packed_refs,
        _remove_objects,
        _only_a_file,
    ],
)
def test_a_damaged_cache_heals(source: Source, acme: Cache, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(acme.path("acme"))
    source.commit({"a": "a"})
    acme.refresh("acme", source.url)
    try:
        prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    except WorkspaceError:  # what only a checkout could find out: the fetch after it heals
        acme.refresh("acme", source.url)
        prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert is_sound(acme)
    assert [path.name for path in sorted(acme.root.iterdir())] == ["acme.git", "acme.lock"]


@pytest.mark.parametrize("damage", [_garble_packed_refs, _remove_objects])
def test_damage_that_a_reader_finds_is_healed_by_the_next_fetch(
    source: Source, acme: Cache, damage: Callable[[Path], None]
) -> None:
    damage(acme.path("acme"))
    with pytest.raises(WorkspaceError):
        acme.refs("acme")
    acme.refresh("acme", source.url)
    assert acme.refs("acme") == [("refs/remotes/origin/main", source.git("rev-parse", "HEAD"))]


@pytest.mark.parametrize("damage", [_remove_head, _remove_state, _garble_config])
def test_branches_of_sessions_survive_the_healing(source: Source, acme: Cache, damage: Callable[[Path], None]) -> None:
    source.git("checkout", "--quiet", "-b", "work")
    kept = source.commit({"work": "of a session"})
    acme.keep_branch("acme", "rota/nightly/1-1", source=source.path / ".git", ref="work")
    source.git("checkout", "--quiet", "main")
    source.git("branch", "-D", "work")
    damage(acme.path("acme"))
    acme.refresh("acme", source.url)
    assert branches(acme)["refs/heads/rota/nightly/1-1"] == kept
    assert is_sound(acme)


def test_a_blob_that_is_lost_is_found_out_by_the_checkout_and_healed(
    source: Source, acme: Cache, tmp_path: Path
) -> None:
    objects, blob = acme.objects("acme"), source.git("rev-parse", "HEAD:src/app.py")
    [pack] = (objects / "pack").glob("*.pack")
    data = pack.read_bytes()
    for part in (objects / "pack").iterdir():
        part.unlink()
    (tmp_path / "pack").write_bytes(data)
    with (tmp_path / "pack").open("rb") as file:
        subprocess.run(["git", "unpack-objects", "-q"], cwd=acme.path("acme"), stdin=file, check=True)
    (objects / blob[:2] / blob[2:]).unlink()
    acme.refresh("acme", source.url)
    with pytest.raises(GitFailed, match="Checking out acme"):
        prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    acme.refresh("acme", source.url)
    prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")


def test_locks_and_halves_of_killed_commands_are_tidied(source: Source, acme: Cache) -> None:
    path = acme.path("acme")
    stale = ["packed-refs.lock", "shallow.lock", "config.lock", "refs/remotes/origin/main.lock", "refs/heads/x.lock"]
    stale += ["objects/pack/tmp_pack_abc", "objects/pack/tmp_idx_abc"]
    for name in stale:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    source.git("branch", "new")
    source.commit({"a": "a"})
    acme.refresh("acme", source.url)
    assert not [name for name in stale if (path / name).exists()]
    assert acme.resolve("acme", "main") == source.git("rev-parse", "HEAD")


def test_a_worker_killed_while_its_forge_is_slow_leaves_the_lock_to_its_command(
    source: Source, acme: Cache, tmp_path: Path, forge: Callable[[str], Path]
) -> None:
    asked = forge("sleep 0.8")
    url = f"ssh://forge{source.path}"
    process = worker(REFRESH, acme.root, url)
    until(asked.exists, within=10, what="the forge is asked")
    process.kill()
    process.communicate()
    with pytest.raises(Busy), locked(acme.root / "acme.lock", wait=timedelta(seconds=0.1)):
        pass
    head = source.commit({"a": "a"})
    acme.refresh("acme", url)
    assert acme.resolve("acme", "main") == head
    assert is_sound(acme)


def test_after_a_kill_at_any_moment_the_next_refresh_heals(source: Source, cache: Cache) -> None:
    with Path("/dev/urandom").open("rb") as noise:  # 6 MB that don't compress: a first fetch takes a while
        source.commit({f"noise/{number}": noise.read(60_000) for number in range(100)})
    interrupted = 0
    for number in range(12):
        process = worker(REFRESH, cache.root, source.url)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.004 * 1.6**number if number < 9 else 0.02)
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        interrupted += b"done" not in out
        if number % 4 == 3:
            cache.refresh("acme", source.url)
            assert is_sound(cache)
            source.commit({f"more-{number}": "x"})
        if number == 7:
            shutil.rmtree(cache.path("acme"))
    cache.refresh("acme", source.url)
    assert interrupted >= 6
    assert is_sound(cache)
    assert cache.resolve("acme", "main") == source.git("rev-parse", "HEAD")
    assert [path.name for path in sorted(cache.root.iterdir())] == ["acme.git", "acme.lock"]
    assert not list(cache.objects("acme").glob("pack/tmp_*"))


FULL = """
import subprocess
from pathlib import Path
from runners.base import DiskFull
from runners.workspaces import Cache, prepare
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", root], check=True)
cache = Cache(root / "cache")
try:
    cache.refresh("acme", sys.argv[2])
except DiskFull as error:
    print(error)
print(sorted(path.name for path in cache.root.iterdir()))
subprocess.run(["mount", "-o", "remount,size=3m", root], check=True)
cache.refresh("acme", sys.argv[2])
try:
    prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=root / "w")
except DiskFull as error:
    print(error)
print(sorted(path.name for path in root.iterdir()))
subprocess.run(["mount", "-o", "remount,size=20m", root], check=True)
prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=root / "w")
print("done")
"""


def test_a_full_disk_is_told_and_leaves_nothing_behind(source: Source, tmp_path: Path) -> None:
    apart = ["unshare", "--user", "--map-root-user", "--mount"]  # where a user may mount a small disk
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("this machine has no user namespaces")
    with Path("/dev/urandom").open("rb") as noise:
        source.commit({"noise": noise.read(2_000_000)})
    (tmp_path / "disk").mkdir()
    out, err = worker(FULL, tmp_path / "disk", source.url, under=apart).communicate()
    assert out.decode().splitlines() == [
        f"Fetching {source.url}: there is no space left on the disk.",
        "['acme.lock']",
        "Checking out acme: there is no space left on the disk.",
        "['cache']",
        "done",
    ], err
