"""Objects that git itself would refuse to write."""

import hashlib
import zlib
from pathlib import Path

from tests.runners.repositories import run_git


def hash_object(git_dir: Path, kind: str, content: str) -> str:
    return run_git(git_dir, "hash-object", "-t", kind, "-w", "--stdin", "--literally", stdin=content)


def hostile_commit(git_dir: Path, entries: list[tuple[str, str, str]]) -> str:
    """A commit whose tree has names that git itself would refuse to add: triples of mode, name and content."""
    raw = b""
    for mode, name, content in entries:
        oid = content if mode == "40000" else hash_object(git_dir, "blob", content)
        raw += f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid)
    tree = write_raw(git_dir, "tree", raw)
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nHostile\n"
    return write_raw(git_dir, "commit", text.encode())


def write_raw(git_dir: Path, kind: str, raw: bytes, *, name: str = "") -> str:
    """Write a loose object as it is, under a name of one's own choice if need be."""
    data = f"{kind} {len(raw)}".encode() + b"\0" + raw
    oid = name or hashlib.sha1(data, usedforsecurity=False).hexdigest()
    path = git_dir / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(zlib.compress(data))
    return oid
