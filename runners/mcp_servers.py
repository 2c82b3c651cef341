"""The MCP servers of a schedule: programs and addresses that offer an agent more tools. Pure.

They are told in the form of Claude Code's `mcpServers`: name → {command, args, env}, or {type, url, headers} where the
type is http or sse. The texts of `env` and `headers`, and `url`, may hold `${NAME}` or `${NAME:-otherwise}`: a variable
of the session's environment, a secret say. So the schedule holds no secret, nor does the command line of a program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, TypeGuard

MOST_BYTES: Final = 100_000

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]|_(?!_))*")
_VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<otherwise>:-[^}]*)?\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "stdio": frozenset({"type", "command", "args", "env"}),
    "http": frozenset({"type", "url", "headers"}),
    "sse": frozenset({"type", "url", "headers"}),
}


def kind_of(server: Mapping[str, Any]) -> str:
    """`stdio`, `http`, `sse`, or what stands there instead."""
    return str(server.get("type") or "stdio")


def variables(text: str) -> dict[str, bool]:
    """The variables of a text: name → whether it has to be set."""
    return {found["name"]: found["otherwise"] is None for found in _VARIABLE.finditer(text)}


def filled_in(text: str, environment: Mapping[str, str], *, otherwise: str) -> str:
    """A text with its variables filled in. `otherwise` stands for one that is not in `environment`."""

    def value(found: re.Match[str]) -> str:
        given = environment.get(found["name"])
        if given is None and found["otherwise"] is not None:
            return found["otherwise"].removeprefix(":-")
        return otherwise if given is None else given

    return _VARIABLE.sub(value, text)


def wanted(servers: object) -> set[str]:
    """The variables that have to be set. Of servers that can't be used, as far as they can be read."""
    found: set[str] = set()
    for server in servers.values() if isinstance(servers, Mapping) else ():
        for text in _texts(server) if isinstance(server, Mapping) else ():
            found |= {name for name, must in variables(text).items() if must}
    return found


def absolute_commands(servers: Mapping[str, Any] | None) -> list[str]:
    """Programs that a session starts, wherever they are on the machine."""
    return [server["command"] for server in (servers or {}).values() if str(server.get("command", "")).startswith("/")]


def problem(servers: object, *, trusted: bool) -> str:
    """What is wrong with them; empty when all is well. `trusted`: the code of the repository may be run."""
    if not isinstance(servers, Mapping):
        return 'Give a JSON object, such as {"forge": {"command": "forge-mcp", "args": ["--read-only"]}}.'
    if len(json.dumps(servers).encode()) > MOST_BYTES:
        return f"They are longer than {MOST_BYTES // 1000} kB."
    if set(servers) == {"mcpServers"} and isinstance(servers["mcpServers"], Mapping):
        return "Leave the mcpServers around it out: name the servers at once."
    for name, server in servers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 60:
            return f"“{name}” is no name of a server. Use letters, digits, - and single _."
        if found := _server_problem(server, trusted=trusted):
            return f"{name}: {found}"
    return ""


def _server_problem(server: object, *, trusted: bool) -> str:
    if not isinstance(server, Mapping):
        return 'Give an object, with a "command" or a "url".'
    kind = kind_of(server)
    if kind not in _KEYS:
        return f"“{kind}” is no type of a server. There are: {', '.join(_KEYS)}."
    if kind == "stdio" and "url" in server and "command" not in server:
        return 'A server with a "url" needs a "type": http or sse.'
    if unknown := sorted(map(str, set(server) - _KEYS[kind])):
        return f"{', '.join(unknown)}: is nothing that a {kind} server has. It has: {', '.join(sorted(_KEYS[kind]))}."
    return _program_problem(server, trusted=trusted) if kind == "stdio" else _address_problem(server)


def _program_problem(server: Mapping[str, Any], *, trusted: bool) -> str:
    command, arguments = server.get("command"), server.get("args", [])
    if not _is_text(command) or not command:
        return 'Give its program as "command".'
    if not isinstance(arguments, list) or not all(map(_is_text, arguments)):
        return '"args" is a list of texts, such as ["--read-only"].'
    if any(variables(text) for text in (command, *arguments)):
        return "A command line can be read by everybody on the machine: hand variables over in “env”."
    if "/" in command and not PurePosixPath(command).is_absolute() and not trusted:
        return f"{command} is code of the repository: trust it first (project among the setting sources)."
    return _pairs_problem("env", server.get("env", {}), re.compile(r"[A-Za-z_][A-Za-z0-9_]*"))


def _address_problem(server: Mapping[str, Any]) -> str:
    url = server.get("url")
    if not _is_text(url) or not re.fullmatch(r"https?://[^\s]+", url):
        return 'Give its address as "url", such as "https://mcp.example.com/mcp".'
    if re.match(r"https?://[^/]*@", url):
        return "Keep names and passwords out of the url: hand them over in a header."
    return _pairs_problem("headers", server.get("headers", {}), _HEADER)


def _pairs_problem(field: str, pairs: object, names: re.Pattern[str]) -> str:
    if not isinstance(pairs, Mapping) or not all(map(_is_text, pairs.values())):
        return f'"{field}" is an object of texts, such as {{"TOKEN": "${{TOKEN}}"}}.'
    if wrong := [str(name) for name in pairs if not names.fullmatch(str(name))]:
        return f"“{wrong[0]}” can't be a name in {field}."
    if any("\n" in text or "\r" in text for text in pairs.values()) and field == "headers":
        return "A header is one line."
    return ""


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "\0" not in value


def _texts(server: Mapping[str, Any]) -> Iterator[str]:
    for field in ("env", "headers"):
        if isinstance(pairs := server.get(field), Mapping):
            yield from (text for text in pairs.values() if isinstance(text, str))
    if isinstance(url := server.get("url"), str):
        yield url
