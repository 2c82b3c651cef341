"""Commits of a session, and what came of them. For tests."""

from runners.workspaces import Archive, Cache, Workspace
from tests.runners.repositories import run_git


def commit(workspace: Workspace, message: str = "Work") -> str:
    run_git(workspace.path, "add", "--all")
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", message)
    return run_git(workspace.path, "rev-parse", "HEAD")


def log(cache: Cache, found: Archive) -> list[str]:
    span = f"{found.base_commit}..{found.branch}"
    return run_git(cache.path("acme"), "log", "--format=%an: %s", span).splitlines()
