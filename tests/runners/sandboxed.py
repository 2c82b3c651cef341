"""Programs in real sandboxes. For tests; bubblewrap makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners import sandbox, supervision
from runners.base import Launch, SessionSpec
from runners.environment import session_environment
from runners.sandbox import Sandbox
from tests.runners.held import Held, limits_of, make_spec

_obstacle = sandbox.available()
needs_sandbox = pytest.mark.skipif(bool(_obstacle), reason=_obstacle)

CANARY = "canary-4f1d0c"
NO_NETWORK = Sandbox(network="none")


def hold(
    tmp_path: Path,
    program: str,
    *,
    within: Sandbox = NO_NETWORK,
    launch: dict[str, Any] | None = None,
    **limits: float | None,
) -> Held:
    """Start lines of shell in a sandbox."""
    spec = make_spec(tmp_path, options={})
    environment = session_environment(home=spec.home, extra={"MINE": "given"})
    given = Launch(argv=["sh", "-c", program], environment=environment, **(launch or {}))
    return begin(spec, given, within, **limits)


def begin(spec: SessionSpec, launch: Launch, within: Sandbox, **limits: float | None) -> Held:
    wrapped = sandbox.wrap(launch, spec=spec, sandbox=within)
    shim = supervision.start(spec.folder, wrapped, cwd=spec.workspace, limits=limits_of(**limits))
    return Held(folder=spec.folder, shim=shim)


def said(held: Held) -> str:
    """All that it printed, until it ended well."""
    ending = held.end()
    told = "\n".join(line.data.decode() for line in held.read())
    assert (ending.exit_code, ending.signal, ending.ended_by) == (0, None, ""), told
    return told
