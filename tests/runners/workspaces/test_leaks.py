"""What holds a secret is not kept: not as a branch, not in the cache, not in the patch."""

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.workspaces import Cache, Workspace, archive
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.archives import commit

Checkout = Callable[[], Workspace]

TOKEN = "canary-47110815"
SECRETS = {"DEPLOY_TOKEN": TOKEN, "OTHER": "quite-another-one"}


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    return tmp_path / "patches" / "changes.patch"


def everything(cache: Cache) -> bytes:
    """All that the cache holds, of branches or not."""
    command = ["git", "cat-file", "--batch-all-objects", "--batch"]
    return subprocess.run(command, cwd=cache.path("acme"), capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "written",
    [
        TOKEN,
        base64.b64encode(f"user:{TOKEN}".encode()).decode(),
        TOKEN.encode().hex(),
        "\0binary\0" + TOKEN,
        "canary-\n47110815",
    ],
)
def test_a_file_with_a_secret_is_neither_branch_nor_patch(
    checkout: Checkout, acme: Cache, patch: Path, written: str
) -> None:
    workspace = checkout()
    (workspace.path / "config.txt").write_text(f"token = {written}\n")
    (workspace.path / "readme.md").write_text("# Acme, better\n")

    found = archive(workspace, acme, into=patch, secrets=SECRETS)

    assert (found.leaked, found.branch) == (("DEPLOY_TOKEN",), None)
    assert written.encode() not in patch.read_bytes()
    assert b"+# Acme, better" in patch.read_bytes()
    assert b"[redacted]" in patch.read_bytes() or b"Binary files" in patch.read_bytes()
    assert TOKEN.encode() not in everything(acme)
    assert run_git(acme.path("acme"), "branch") == ""
    assert not any(workspace.folder.glob("witness-*"))


def test_a_commit_in_between_is_looked_into(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "config.txt").write_text(TOKEN)
    commit(workspace)
    (workspace.path / "config.txt").write_text("nothing to see")
    commit(workspace)

    found = archive(workspace, acme, into=patch, secrets=SECRETS)

    assert (found.leaked, found.branch, found.commits) == (("DEPLOY_TOKEN",), None, 2)
    assert b"+nothing to see" in patch.read_bytes()
    assert TOKEN.encode() not in everything(acme)


@pytest.mark.parametrize("place", ["name", "message"])
def test_names_and_messages_are_looked_into(checkout: Checkout, acme: Cache, patch: Path, place: str) -> None:
    workspace = checkout()
    (workspace.path / (TOKEN if place == "name" else "file")).write_text("x")
    commit(workspace, TOKEN if place == "message" else "Work")

    found = archive(workspace, acme, into=patch, secrets=SECRETS)

    assert (found.leaked, found.branch) == (("DEPLOY_TOKEN",), None)
    assert TOKEN.encode() not in patch.read_bytes()


def test_what_the_repository_has_already_is_no_secret_to_it(
    source: Source, acme: Cache, checkout: Checkout, patch: Path
) -> None:
    source.commit({"deploy.sh": f"login {TOKEN}\n"}, "Give it away")
    acme.refresh("acme", source.url)
    workspace = checkout()
    (workspace.path / "deploy.sh").write_text(f"login {TOKEN} # as ever\n")

    found = archive(workspace, acme, into=patch, secrets=SECRETS)

    assert (found.leaked, found.branch) == ((), workspace.branch)


def test_without_a_secret_in_them_changes_are_kept_as_ever(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "image.png").write_bytes(bytes(range(256)) * 40)

    found = archive(workspace, acme, into=patch, secrets=SECRETS)

    assert (found.leaked, found.branch) == ((), workspace.branch)
    assert b"GIT binary patch" in patch.read_bytes()


def test_a_short_line_of_a_long_secret_does_not_count(checkout: Checkout, acme: Cache, patch: Path) -> None:
    config = "apiVersion: v1\nkind: Config\nusers:\n- token: 0123456789abcdefghij\n"
    workspace = checkout()
    (workspace.path / "new.yaml").write_text("apiVersion: v1\nkind: Deployment\n")
    assert archive(workspace, acme, into=patch, secrets={"KUBECONFIG": config}).leaked == ()
    (workspace.path / "new.yaml").write_text("token: 0123456789abcdefghij\n")
    assert archive(workspace, acme, into=patch, secrets={"KUBECONFIG": config}).leaked == ("KUBECONFIG",)
