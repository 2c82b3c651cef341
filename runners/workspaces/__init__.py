"""Where a session works: the cache of a repository, an isolated checkout, the archive of what came of it, its end.

    cache = Cache(root)
    cache.refresh("acme", "https://example.org/acme.git")
    workspace = prepare(cache, "acme", ref="main", branch="rota/nightly/12-1", into=folder)
    …                                                       # the session works in workspace.path
    kept = archive(workspace, cache, into=patch)            # a patch, and a branch of the cache
    workspace.remove()

See docs/decisions/0004-workspaces.md for why it is made this way.
"""

from runners.workspaces.addresses import Probe, check_branch, check_url, default_branch, probe
from runners.workspaces.archiving import Archive, archive, diff_text
from runners.workspaces.cache import Cache, Known
from runners.workspaces.checkout import Workspace, prepare
from runners.workspaces.folders import remove, sizes
from runners.workspaces.reaping import Reaped, reap

__all__ = [
    "Archive",
    "Cache",
    "Known",
    "Probe",
    "Reaped",
    "Workspace",
    "archive",
    "check_branch",
    "check_url",
    "default_branch",
    "diff_text",
    "prepare",
    "probe",
    "reap",
    "remove",
    "sizes",
]
