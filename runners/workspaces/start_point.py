"""Which commit sessions start from: the forge's newest, or, where that is wanted, the last one that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from runners.base import FetchFailed
from runners.workspaces.addresses import check_url, default_branch
from runners.workspaces.cache import Cache

_ASKING = timedelta(seconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPoint:
    """`branch` is the forge's default branch. `stale` is empty, or says that this is not the newest state."""

    commit: str
    branch: str
    stale: str = ""


def find_start(
    cache: Cache,
    slug: str,
    url: str,
    *,
    branch: str = "",
    commit: str = "",
    timeout: timedelta = timedelta(minutes=5),
    or_last_known: bool = False,
) -> StartPoint:
    """Fetch, and tell where sessions start. What a run has pinned (`commit`) is only fetched where it is missing.

    `branch` empty: the one that the forge's HEAD is on. `timeout` is for the fetch, beside at most 20 s for asking for
    that branch. `or_last_known`: a forge that can't be reached is no failure where the cache knows this address from
    earlier. Raises RepositoryInvalid, FetchFailed, DiskFull.
    """
    check_url(url)
    if commit and cache.holds(slug, commit):
        return StartPoint(commit=commit, branch=branch or cache.default_branch(slug))
    try:
        if not branch:
            branch = default_branch(url, timeout=min(timeout, _ASKING))
        cache.refresh(slug, url, timeout=timeout)
    except FetchFailed as error:
        known = cache.known(slug)
        branch = branch or cache.default_branch(slug)
        if not or_last_known or commit or not branch or known is None or known.url != url:
            raise
        stale = (
            f"The repository could not be fetched ({str(error).rstrip('.')}): "
            f"this is its last known state, of {known.fetched_at:%Y-%m-%d %H:%M} UTC."
        )
        return StartPoint(commit=cache.resolve(slug, branch), branch=branch, stale=stale)
    cache.note_default_branch(slug, branch)
    return StartPoint(commit=cache.resolve(slug, commit or branch), branch=branch)
