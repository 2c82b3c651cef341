"""Where a session works: the cache of a repository, an isolated checkout, the archive of what came of it, its end.

    cache = Cache(root)
    cache.refresh("acme", "https://example.org/acme.git")
    workspace = prepare(cache, "acme", ref="main", branch="rota/nightly/12-1", into=folder)
    …                                                       # the session works in workspace.path
    kept = archive(workspace, cache, into=patch)            # a patch, and a branch of the cache
    workspace.remove()                                      # or Kept(root).give(folder, slug="acme") for the next one

See docs/decisions/0004-workspaces.md and 0005-warm-workspaces.md for why it is made this way.
"""

from runners.workspaces.addresses import Probe, check_branch, check_url, default_branch, probe
from runners.workspaces.archiving import Archive, archive, diff_text
from runners.workspaces.cache import Cache, Known
from runners.workspaces.checkout import Workspace, prepare
from runners.workspaces.file_times import tells_of_every_write
from runners.workspaces.folders import is_folder, leftover_of, remove, size, sizes
from runners.workspaces.git import plain_errors
from runners.workspaces.kept import Bounds, Dropped, Kept, KeptCheckout
from runners.workspaces.parking import bundle, bundle_branch, unbundle
from runners.workspaces.reaping import Reaped, reap, waiting
from runners.workspaces.start_point import StartPoint, find_start
from runners.workspaces.wanted import as_long_as

__all__ = [
    "Archive",
    "Bounds",
    "Cache",
    "Dropped",
    "Kept",
    "KeptCheckout",
    "Known",
    "Probe",
    "Reaped",
    "StartPoint",
    "Workspace",
    "archive",
    "as_long_as",
    "bundle",
    "bundle_branch",
    "check_branch",
    "check_url",
    "default_branch",
    "diff_text",
    "find_start",
    "is_folder",
    "leftover_of",
    "plain_errors",
    "prepare",
    "probe",
    "reap",
    "remove",
    "size",
    "sizes",
    "tells_of_every_write",
    "unbundle",
    "waiting",
]
