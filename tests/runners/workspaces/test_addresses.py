"""What may be an address or a branch, and what a repository says of itself."""

import os
import socket
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.base import FetchFailed, RepositoryInvalid
from runners.workspaces import Cache, check_branch, check_url, default_branch, probe
from tests.runners.repositories import Source


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/acme/app.git",
        "https://example.org:8443/acme/app",
        "https://acme@dev.example.org/acme/_git/app",
        "ssh://git@example.org/acme/app.git",
        "ssh://git@example.org:2222/~ada/app.git",
        "ssh://[::1]:22/app.git",
        "git@example.org:acme/app.git",
        "example.org:app.git",
        "file:///srv/git/app.git",
        "/srv/git/app with spaces",
    ],
)
def test_an_address_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("", "no address"),
        ("ext::sh -c touch% /tmp/x", "start programs"),
        ("fd::17", "start programs"),
        ("--upload-pack=touch x", "option"),
        ("-oProxyCommand=touch x", "option"),
        ("ssh://-oProxyCommand=touch/x", "valid host"),
        ("ssh://git@-oProxyCommand=touch/x", "valid host"),
        ("ssh://-l@example.org/x", "valid host"),
        ("ssh://%2doProxyCommand=touch/x", "valid host"),
        ("ssh://example.org/-x", "no path"),
        ("-oProxyCommand=x:y", "option"),
        ("git@-oProxyCommand=x:y", "valid host"),
        ("-l@example.org:y", "option"),
        ("git@example.org:-x", "no path"),
        ("https://example.org/a\nb", "control"),
        ("https://example.org/a%0ahost=evil", "control"),
        ("/srv/a\0b", "control"),
        ("https://ada:secret@example.org/app", "password"),
        ("https://ghp_0123456789@github.com/acme/app", "password"),
        ("https://:secret@example.org/app", "password"),
        ("https:///app", "valid host"),
        ("https://example.org", "no path"),
        ("https://example.org/", "no path"),
        ("https://example.org:port/x", "not a URL"),
        ("https://example.org/a b", "spaces"),
        ("http://example.org/app", "refused"),
        ("git://example.org/app", "refused"),
        ("ftp://example.org/app", "refused"),
        ("file://host/app", "this machine"),
        ("../app", "neither"),
        ("app", "neither"),
        ("~/app", "neither"),
        ("/" + "a" * 2000, "longer"),
    ],
)
def test_an_address_is_refused_with_a_reason(url: str, because: str) -> None:
    with pytest.raises(RepositoryInvalid, match=because):
        check_url(url)


def test_a_refusal_does_not_repeat_the_password() -> None:
    with pytest.raises(RepositoryInvalid) as caught:
        check_url("https://ada:hunter2@example.org/app")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "rota/nightly/12-1",
        "fix/ü",
        "a.b",
        "a@b",
        "@a",
        "feature-x",
        "a" * 240,
        "x/" * 100 + "y",
        "$(reboot)",
        "a;b",
    ],
)
def test_a_branch_is_taken(name: str) -> None:
    check_branch(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "-x", "--upload-pack=x", "a b", "a..b", "a/.b", ".a", "a.", "a/", "/a", "a//b", "a.lock", "a.lock/b"),
        *("@", "a@{b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a\nb", "a\x7f", "HEAD", "\udcff"),
        *("a" * 241, "x/" * 500 + "y"),
    ],
)
def test_a_branch_is_refused(name: str) -> None:
    with pytest.raises(RepositoryInvalid):
        check_branch(name)


@given(st.text(alphabet="ab./@{-~ \\\x01*lock", min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_branches_are_taken_as_git_takes_them(name: str) -> None:
    done = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    git_takes = done.returncode == 0 and not name.startswith("-")
    if git_takes and name != "@":  # git has refs/heads/@, but `@` alone means HEAD wherever a branch is asked for
        check_branch(name)
        return
    with pytest.raises(RepositoryInvalid):
        check_branch(name)


def test_a_probe_tells_the_default_branch_and_its_commit(source: Source) -> None:
    source.git("branch", "aaa")
    source.git("checkout", "--quiet", "-b", "trunk")
    head = source.commit({"a": "a"})
    found = probe(source.url)
    assert (found.default_branch, found.head) == ("trunk", head)
    assert default_branch(f"file://{source.path}") == "trunk"


def test_a_worktree_with_changes_is_a_repository_too(source: Source, tmp_path: Path) -> None:
    source.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "readme.md").write_text("changed")
    assert default_branch(str(tmp_path / "side")) == "side"


def test_a_detached_head_means_a_branch_at_its_commit(source: Source) -> None:
    source.git("branch", "release")
    source.commit({"a": "a"})
    source.git("checkout", "--quiet", "release")
    source.git("checkout", "--quiet", "--detach")
    assert default_branch(source.url) == "release"


def test_an_unborn_head_means_main_where_there_is_one(source: Source) -> None:
    source.git("branch", "aaa")
    source.git("checkout", "--quiet", "--orphan", "new")
    assert default_branch(source.url) == "main"


def test_a_repository_without_commits_is_refused(repository: Callable[[], Source]) -> None:
    empty = repository()
    with pytest.raises(RepositoryInvalid, match=r"has no commits yet: commit something"):
        probe(empty.url)


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryInvalid, match="There is no git repository at"):
        probe(str(tmp_path))
    with pytest.raises(RepositoryInvalid, match="There is no git repository at"):
        probe(str(tmp_path / "missing"))


def test_a_repository_with_sha256_is_refused_in_words(repository: Callable[[], Source], cache: Cache) -> None:
    new = repository()
    (new.path / ".git").rename(new.path.parent / "old")
    new.git("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    new.commit({"a": "a"})
    with pytest.raises(RepositoryInvalid, match="SHA-256"):
        probe(new.url)
    with pytest.raises(RepositoryInvalid, match="SHA-256"):
        cache.refresh("acme", new.url)


def test_a_repository_of_another_user_is_refused_with_advice(source: Source) -> None:
    for path in (source.path, source.path / ".git"):
        try:
            os.chown(path, 12345, 12345)
        except PermissionError:
            pytest.skip("only root can give a folder away")
    with pytest.raises(RepositoryInvalid, match=r"belongs to another user .* safe\.directory"):
        probe(source.url)


def test_a_forge_that_refuses_is_a_failed_fetch() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchFailed, match="could not be read"):
        probe(f"https://127.0.0.1:{port}/app")


def test_a_forge_that_takes_a_connection_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/app"
        with pytest.raises(FetchFailed, match=r"longer than 0\.4 s"):
            probe(url, timeout=timedelta(seconds=0.4))
