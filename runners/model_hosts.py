"""Whether an agent in a sandbox can reach its model and its MCP servers.

Said where a schedule is saved, and not by sessions that fail.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from runners import mcp_servers
from runners.egress import permits

# The variable that says where an agent's model is → where it is without.
_USUAL: Final[Mapping[str, str]] = {
    "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
    "OPENAI_BASE_URL": "https://api.openai.com",
}
# With one of these a cloud is asked, whose addresses we don't know.
_CLOUDS: Final = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_OF_THIS_MACHINE: Final = re.compile(r"(.+\.)?localhost|127(\.[0-9]+){3}|::1")
_PORTS: Final = {"https": 443, "http": 80}
_UNKNOWN: Final = "unknown-to-the-door"  # stands for what only the session will be told


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
    shown = _shown(host, port)
    if _OF_THIS_MACHINE.fullmatch(host):
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


def unreachable_servers(
    servers: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    network: str,
    allowed_hosts: Sequence[str],
) -> list[tuple[str, str]]:
    """For each MCP server at an address that is out of reach: the field to mend, as above, and a sentence.

    `environment` is what its variables are set to; one that hangs on a secret is not looked into.
    """
    found = []
    for name, server in servers.items() if network != "host" else ():
        if not isinstance(server, Mapping) or mcp_servers.kind_of(server) not in ("http", "sse"):
            continue
        host, port = _host(mcp_servers.filled_in(str(server.get("url", "")), environment, otherwise=_UNKNOWN))
        if not host or _UNKNOWN in host:
            continue
        where = f"The MCP server {name} is at {_shown(host, port)}"
        if _OF_THIS_MACHINE.fullmatch(host):
            told = f"{where}, on the worker's machine, which a sandbox reaches by the worker's network alone"
            found.append(("network", f"{told}: choose that, or have the session start the server by its command."))
        elif network == "none":
            told = f"{where}, and without a network nothing is reached"
            found.append(("network", f"{told}: choose the allowed hosts only, and name it there."))
        elif not permits(allowed_hosts, (host, port)):
            found.append(("allowed_hosts", f"{where}: add {_shown(host, port)}, or take the server out."))
    return found


def _shown(host: str, port: int) -> str:
    return host if port in _PORTS.values() else f"{host}:{port}"


def _host(url: str) -> tuple[str, int]:
    """Host and port of a URL; the host is empty where it has none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 443)
    except ValueError:
        return "", 0
