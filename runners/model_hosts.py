"""Whether an agent in a sandbox can reach its model: said where a schedule is saved, and not by sessions that fail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from runners.egress import permits

# The variable that says where an agent's model is → where it is without.
_USUAL: Final[Mapping[str, str]] = {
    "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
    "OPENAI_BASE_URL": "https://api.openai.com",
}
# With one of these a cloud is asked, whose addresses we don't know.
_CLOUDS: Final = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_OF_THIS_MACHINE: Final = ("localhost", "127.", "::1")
_PORTS: Final = {"https": 443, "http": 80}


def unreachable_model(
    credentials: Collection[str],
    environment: Mapping[str, str],
    *,
    network: str,
    allowed_hosts: Sequence[str],
) -> tuple[str, str]:
    """The field to mend (`network` or `allowed_hosts`) and a sentence; both empty where nothing is known to be wrong.

    `credentials` are the runner's: one of them says where its model is, `environment` what it is set to. `network` is
    as `runners.sandbox` has it. Rehearsals need no network: their model is in the sandbox.
    """
    named = next((name for name in credentials if name in _USUAL), "")
    if network == "host" or not named or any(environment.get(cloud) for cloud in _CLOUDS):
        return "", ""
    host, port = _host(environment.get(named) or _USUAL[named])
    if not host:
        return "", ""
    shown = host if port in _PORTS.values() else f"{host}:{port}"
    if host.startswith(_OF_THIS_MACHINE):
        told = (
            f"The agent's model is at {shown}, on the worker's machine, which a sandbox reaches by the worker's network"
        )
        return "network", f"{told} alone: choose that, or a model elsewhere."
    if network == "none":
        told = f"The agent could not reach its model: choose the allowed hosts only, and name {shown} there"
        return "network", f"{told}. Rehearsals need none."
    if permits(allowed_hosts, (host, port)):
        return "", ""
    return "allowed_hosts", f"The agent's model is at {shown}: add {shown}, or set {named} to where it is."


def _host(url: str) -> tuple[str, int]:
    """Host and port of a URL; the host is empty where it has none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 443)
    except ValueError:
        return "", 0
