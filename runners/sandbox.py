"""A session in a sandbox: bubblewrap around whatever a runner launches, which need not know.

    shim ─► keeper (sandbox_outside) ─► bubblewrap ═╦═► bubblewrap ─► sandbox_inside ─► program
                 way out (egress) ◄─────────────────╨── a listening socket, handed over

Inside there are the checkout and HOME to write to; the system's programs, Rota's Python, what the launch reads, and the
objects that the checkout borrows, for reading only; an own /tmp (in HOME), /dev and /proc; and nothing else of the
machine. The processes are alone in their namespace, have no capabilities, gain none, and end together.
docs/decisions/0007-sandbox.md says why so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from runners import sandbox_inside, sandbox_outside
from runners.base import Launch, SandboxUnavailable, SessionSpec

Network = Literal["host", "none", "allow_list"]

PROXY_PORT: Final = 3128  # on the sandbox's own loopback
_PROXY: Final = f"http://127.0.0.1:{PROXY_PORT}"
_PROXIED: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_NOT_PROXIED: Final = "localhost,127.0.0.1,::1"

_NOBODY: Final = "65534"
_PROBE_SECONDS: Final = 20
_OR_NONE: Final = "or set the schedule's sandbox to none."
_MEND: Final = f"Mend that (docs/operations.md tells how), {_OR_NONE}"

# Where systems keep their programs: shown as they are. What is a link there is one inside, too.
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs need of /etc: no keys, no passwords, no configuration of services.
_ETC: Final = (
    *("passwd", "group", "nsswitch.conf", "hosts", "host.conf", "gai.conf", "services", "protocols", "mime.types"),
    *("ssl/certs", "ssl/openssl.cnf", "ca-certificates", "ca-certificates.conf"),
    *("pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "pki/ca-trust/extracted", "crypto-policies"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "os-release", "debian_version"),
    *("localtime", "timezone", "fonts", "magic", "terminfo", "ssh/ssh_config", "ssh/ssh_known_hosts"),
)
_RESOLVER: Final = "resolv.conf"  # where there is a network

_ROOM: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--hostname", "rota", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a schedule wants of its sandbox. `objects`: the folder that the checkout borrows from, where it has one."""

    network: Network = "host"
    allowed_hosts: Sequence[str] = ()  # where the network is `allow_list`; see `runners.egress`
    objects: Path | None = None


def wrap(launch: Launch, *, spec: SessionSpec, sandbox: Sandbox) -> Launch:
    """The same launch, in a sandbox. Raises SandboxUnavailable: what is to be in a sandbox is never started outside."""
    if obstacle := available():
        raise SandboxUnavailable(obstacle)
    exposed = [path for path in (spec.folder, spec.workspace) if _is_of_system(path.resolve())]
    if exposed:
        raise SandboxUnavailable(f"{exposed[0]} lies where all sessions can read. Move it elsewhere with ROTA_VAR.")
    hosts, port, environment = [], 0, dict(launch.environment)
    if sandbox.network == "allow_list":
        hosts, port = list(sandbox.allowed_hosts), PROXY_PORT
        environment |= _proxied()
    keeper = [sys.executable, "-I", "-S", sandbox_outside.__file__, *hosts, "--"]
    inside = [sys.executable, "-I", "-S", sandbox_inside.__file__, str(sandbox_outside.CONTROL), str(port), "--"]
    room = _bubblewrap(launch, spec=spec, sandbox=sandbox)
    return replace(launch, argv=[*keeper, *room, *inside, *launch.argv], environment=environment)


def available() -> str:
    """Empty where a sandbox can be made; else why it can't, and what to do. Makes one to see, in some 20 ms."""
    program = shutil.which("bwrap")
    if program is None:
        return f"bubblewrap is not installed where this worker runs. Install the package bubblewrap, {_OR_NONE}"
    probe = [program, *_ROOM, "--unshare-net", *_system("none"), "--proc", "/proc", "--dev", "/dev", "--", "true"]
    try:
        answer = subprocess.run(
            probe,
            env={"PATH": os.defpath},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap can't make a sandbox on this machine: {error}. {_MEND}"
    if answer.returncode == 0:
        return ""
    said = (answer.stderr.strip() or f"exit code {answer.returncode}").rstrip(".")
    return f"bubblewrap can't make a sandbox on this machine: {said[:500]}. {_MEND}"


def _proxied() -> dict[str, str]:
    """Some programs read these in capitals, some in small letters."""
    found = dict.fromkeys(_PROXIED, _PROXY) | {"NO_PROXY": _NOT_PROXIED}
    return found | {name.lower(): value for name, value in found.items()}


def _bubblewrap(launch: Launch, *, spec: SessionSpec, sandbox: Sandbox) -> Iterator[str]:
    """Its command line. Later mounts lie on earlier ones."""
    yield from (shutil.which("bwrap") or "bwrap", *_ROOM)
    if os.getuid() == 0:  # its name inside is nobody's: root could make no sandbox in a sandbox, as Codex does
        yield from ("--uid", _NOBODY, "--gid", _NOBODY)
    if sandbox.network != "host":
        yield "--unshare-net"
    yield from _system(sandbox.network)
    yield from ("--proc", "/proc", "--dev", "/dev", "--dir", "/run")
    for place in ("/tmp", "/var/tmp"):  # on the disk, for they may grow large, and gone with HOME
        temporary = launch.environment.get("TMPDIR")
        yield from ("--bind", temporary, place) if temporary else ("--tmpfs", place)
    for path in _outermost([*_python(), *_search_path(launch), *_read(launch, spec)]):
        yield from ("--ro-bind-try", str(path), str(path))
    for path in (spec.home, spec.workspace):
        yield from _both_ways("--bind", path)
    if sandbox.objects:
        yield from _both_ways("--ro-bind", sandbox.objects)
    directory = (spec.workspace / launch.working_directory).resolve()
    yield from ("--remount-ro", "/", "--chdir", str(directory), "--")


def _system(network: Network) -> Iterator[str]:
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in (*_ETC, *([_RESOLVER] if network == "host" else [])):
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _python() -> Iterator[Path]:
    """Rota's Python and Rota's code for sessions: parts, for there may be more in the folders around them."""
    for prefix in {sys.prefix, sys.base_prefix}:
        for part in ("bin", "lib", "lib64", "pyvenv.cfg"):
            yield Path(prefix, part)
    yield Path(__file__).resolve().parent


def _search_path(launch: Launch) -> Iterator[Path]:
    """Where the worker's setting says that programs of sessions are."""
    for entry in launch.environment.get("PATH", "").split(os.pathsep):
        if entry.startswith("/") and len(Path(entry).parts) > 1:
            yield Path(entry)


def _read(launch: Launch, spec: SessionSpec) -> Iterator[Path]:
    """What the launch says it reads, and its program, by their names and by what these lead to."""
    for name in (launch.argv[0], *launch.reads):
        path = Path(name)
        if path.is_absolute() and not any(path.is_relative_to(own) for own in (spec.home, spec.workspace)):
            yield from (path, path.resolve())


def _outermost(paths: Iterable[Path]) -> Iterator[Path]:
    """Each that the system's folders, or another of them, do not show already."""
    last = None
    for path in sorted(set(paths)):
        if not _is_of_system(path) and not (last and path.is_relative_to(last)):
            yield (last := path)


def _both_ways(option: str, path: Path) -> Iterator[str]:
    """Under its name and under what the name leads to, where a folder above it is a link."""
    for place in dict.fromkeys((path, path.resolve())):
        yield from (option, str(path), str(place))


def _is_of_system(path: Path) -> bool:
    return any(path.is_relative_to(name) for name in _SYSTEM)
