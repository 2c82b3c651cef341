"""What is in a cache, by git itself. For tests."""

from runners.workspaces import Cache
from tests.runners.repositories import run_git


def branches(cache: Cache) -> dict[str, str]:
    listed = run_git(cache.path("acme"), "for-each-ref", "--format=%(refname) %(objectname)")
    return dict(line.split(" ", 1) for line in listed.splitlines())


def is_sound(cache: Cache) -> bool:
    run_git(cache.path("acme"), "fsck", "--full", "--strict")
    return True
