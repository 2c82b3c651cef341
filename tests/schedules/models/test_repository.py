"""What is saved of a repository is what git may be told."""

import re
import subprocess
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from runners import Cache
from runners.workspaces import check_branch, check_url
from schedules.models import Repository

pytestmark = pytest.mark.django_db

# Pieces of what would be an option, another program or another file, in any order.
HOSTILE = st.lists(
    st.sampled_from(
        [
            *("-", "--", "--upload-pack=", "-oProxyCommand=", "ext::", "fd::", "sh -c touch% x", "ssh://", "https://"),
            *("file://", "http://", "git@", "@", ":", "/", "//", "..", ".", ".lock", "%2d", "%00", "\0", "\n"),
            *("host", "example.org", "22", "~", "^", "@{", "\\", " ", "[::1]", "$(x)", ";", "\u200c", "é", "HEAD"),
        ]
    ),
    max_size=7,
).map("".join)


def is_refused(field: str, **fields: str) -> bool:
    try:
        Repository(**{"slug": "shop", "url": "/srv/git/shop", **fields}).clean()
    except ValidationError as error:
        return list(error.message_dict) == [field]
    return False


@given(HOSTILE)
@example("ext::sh -c touch% x")
@example("--upload-pack=touch x")
@example("ssh://-oProxyCommand=touch/x")
@example("ssh://git@-oProxyCommand=touch/x")
@example("-oProxyCommand=touch:x")
def test_an_address_is_never_an_option_or_a_program(url: str) -> None:
    if not url or is_refused("url", url=url):
        return
    host = url.partition("://")[2] or url
    assert not url.startswith("-")
    assert not re.match(r"[A-Za-z0-9+.-]*::", url), "git would start a program of that name"
    assert not any(part.startswith("-") for part in host.split("@")[:2]), url
    assert url.isprintable() or "\u200c" in url
    check_url(url)


@given(HOSTILE)
@example("--upload-pack=x")
@example("-")
def test_a_branch_is_one_that_git_takes_and_no_option(branch: str) -> None:
    if not branch or is_refused("default_branch", default_branch=branch):
        return
    assert not branch.startswith("-")
    check_branch(branch)
    git = ["git", "check-ref-format", "--branch", branch]
    assert subprocess.run(git, capture_output=True, check=False).returncode == 0


@given(st.text(alphabet="abc012.-_/\\ AÉ\n", max_size=8))
@example("a..b")
def test_a_short_name_is_the_name_of_a_folder(slug: str) -> None:
    try:
        Repository(slug=slug, url="/srv/git/shop").clean_fields()
    except ValidationError:
        return
    root = Path("/var/cache")
    assert Cache(root).path(slug).parent == root
    assert Cache(root).path(slug).name == f"{slug}.git"


def test_all_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        Repository(slug="shop", url="ext::sh", default_branch="-x").full_clean()
    assert set(refused.value.message_dict) == {"url", "default_branch"}
