"""What may be a repository's address and a branch's name, and what a repository says of itself when it is asked.

Text from outside must never become an option or a program: `ext::sh -c …`, `--upload-pack=…` and
`ssh://-oProxyCommand=…` are refused here, before git sees them, and once more by git's own `GIT_ALLOW_PROTOCOL` and
`--end-of-options`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

from runners.base import FetchFailed, RepositoryInvalid
from runners.workspaces.git import GitFailed, TookTooLong, for_people, git

_LONGEST_URL = 2000
_LONGEST_PART = 240  # of a branch's name: it is a file's name while git writes it, with `.lock` behind
_LONGEST_BRANCH = 900

_HELP = "Give an https:// or ssh:// URL, user@host:path, or the absolute path of a repository on this machine."
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|%[01][0-9a-fA-F]|%7[fF]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+._-]+::")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*")
_SCP_LIKE = re.compile(r"(?:([^@/:]*)@)?([^@/:]+):(.+)")
_TOKEN = re.compile(r"gh[a-z]_|github_pat_|glpat-|x-access-token|oauth2$|x-token-auth")

_BAD_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock/")

# git's words when there is nothing to be had, whoever asks, rather than a forge that can't be reached just now.
_NO_REPOSITORY = re.compile(
    r"does not appear to be a git repository|does not exist|not a git repository|invalid gitfile"
)
_NOT_OURS = re.compile(r"dubious ownership")
_SHA256 = re.compile(r"mismatched algorithms|unknown object format|unsupported object format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a repository answered: the branch that its HEAD is on, and that branch's commit."""

    default_branch: str
    head: str


def check_url(url: str) -> None:
    """Refuse what is no address of a repository, or could be more than one. Raises RepositoryInvalid."""
    if not url:
        raise RepositoryInvalid(f"The repository has no address. {_HELP}")
    if len(url) > _LONGEST_URL:
        raise RepositoryInvalid(f"The address is longer than {_LONGEST_URL} characters.")
    if _CONTROL.search(url):
        raise RepositoryInvalid("The address contains control characters.")
    if url.startswith("-"):
        raise RepositoryInvalid(f"The address starts with “-”, which would make it an option. {_HELP}")
    if _HELPER.match(url):
        raise RepositoryInvalid(f"Addresses like “ext::…” start programs and are refused. {_HELP}")
    if url.startswith("/"):
        return
    scheme = _SCHEME.match(url)
    if scheme:
        _check_scheme(scheme[1].lower(), url)
        return
    _check_scp_like(url)


def check_branch(name: str) -> None:
    """Refuse what is no name of a branch, by the rules of `git check-ref-format --branch`. Raises RepositoryInvalid."""
    parts = name.split("/")
    wrong = (
        not name
        or name in ("@", "HEAD")
        or name[0] in "-./"
        or name[-1] in "./"
        or name.endswith(".lock")
        or _BAD_IN_BRANCH.search(name) is not None
        or any(0xD800 <= ord(char) <= 0xDFFF for char in name)
    )
    if wrong:
        shown = name.encode("ascii", "backslashreplace").decode()[:100]
        raise RepositoryInvalid(f"“{shown}” can't be the name of a branch in git.")
    too_long = len(name.encode()) > _LONGEST_BRANCH or any(len(part.encode()) > _LONGEST_PART for part in parts)
    if too_long:
        raise RepositoryInvalid("The name of the branch is too long.")


def probe(url: str, *, timeout: timedelta = timedelta(seconds=20)) -> Probe:
    """Ask a repository for its HEAD. Raises RepositoryInvalid (also when it has no commits), FetchFailed."""
    check_url(url)
    refs = _ask(url, "HEAD", timeout=timeout)
    head = refs.get("HEAD", "")
    if head.startswith("ref: refs/heads/"):
        branch = head.removeprefix("ref: refs/heads/")
        return Probe(default_branch=branch, head=refs[""])
    heads = _ask(url, "refs/heads/*", timeout=timeout)
    if not heads:
        raise RepositoryInvalid(no_commits(url))
    branch = _likeliest(heads, head)
    return Probe(default_branch=branch, head=heads[f"refs/heads/{branch}"])


def default_branch(url: str, *, timeout: timedelta = timedelta(seconds=20)) -> str:
    """The branch that a repository's HEAD is on. Raises as `probe` does."""
    return probe(url, timeout=timeout).default_branch


def no_commits(url: str) -> str:
    """The sentence for an empty repository."""
    return f"{url} has no commits yet: commit something there first."


def refusal(error: GitFailed, url: str) -> FetchFailed | RepositoryInvalid:
    """What git said about an address, as the error that it is."""
    if _NOT_OURS.search(error.stderr):
        return RepositoryInvalid(
            f"{url} belongs to another user of this machine. Let the user that Rota runs as own it, or allow it: "
            f"git config --global --add safe.directory {url}"
        )
    if _SHA256.search(error.stderr):
        return RepositoryInvalid(_sha256(url))
    if _NO_REPOSITORY.search(error.stderr) and _is_local(url):
        return RepositoryInvalid(f"There is no git repository at {url}.")
    return FetchFailed(f"{url} could not be read: {for_people(error.stderr)}")


def _ask(url: str, pattern: str, *, timeout: timedelta) -> dict[str, str]:
    """`git ls-remote`: full name of a ref → its commit. HEAD holds `ref: NAME` where it is symbolic; "" its commit."""
    try:
        answer = git(
            *("ls-remote", "--quiet", "--symref", "--end-of-options", url, pattern),
            at=None,
            action=f"Asking {url}",
            timeout=timeout,
            forge=True,
        )
    except GitFailed as error:
        raise refusal(error, url) from error
    except TookTooLong as error:
        raise FetchFailed(str(error)) from error
    refs: dict[str, str] = {}
    if re.match(rb"[0-9a-f]{64}\t", answer.out.rpartition(b"\n")[0].rpartition(b"\n")[2]):
        raise RepositoryInvalid(_sha256(url))
    for line in answer.out.decode(errors="replace").splitlines():
        value, _, name = line.partition("\t")
        if name == "HEAD" and "HEAD" in refs:
            name = ""
        refs[name] = value
    return refs


def _sha256(url: str) -> str:
    return f"{url} uses SHA-256 object names, which Rota can't work with yet."


def _likeliest(heads: dict[str, str], head: str) -> str:
    """The branch to take for a detached or unborn HEAD: one at its commit first, then by custom, then by name."""
    names = sorted(
        (name.removeprefix("refs/heads/") for name in heads),
        key=lambda name: (heads[f"refs/heads/{name}"] != head, name not in ("main", "master"), name),
    )
    return names[0]


def _check_scheme(scheme: str, url: str) -> None:
    if scheme not in ("https", "ssh", "file"):
        raise RepositoryInvalid(f"Addresses with {scheme}:// are refused. {_HELP}")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is no number
    except ValueError as error:
        raise RepositoryInvalid(f"The address is not a URL: {error}.") from error
    if scheme == "file":
        _check_file(parts)
        return
    if re.search(r"\s", url):
        raise RepositoryInvalid("The URL contains spaces.")
    if parts.password is not None or _TOKEN.match(parts.username or ""):
        raise RepositoryInvalid(
            "The URL contains a password or token, which would show wherever the URL does. Remove it, and give it to a "
            "git credential helper of the user that Rota runs as; or use ssh."
        )
    user_info, at_sign, host = parts.netloc.rpartition("@")
    host = re.sub(r":\d*$", "", host)
    if not _HOST.fullmatch(host) or (at_sign and not _USER.fullmatch(user_info)):
        raise RepositoryInvalid("The URL has no valid host.")
    if len(parts.path) < 2 or parts.path.startswith("/-"):
        raise RepositoryInvalid("The URL has no path to a repository.")


def _check_file(parts: SplitResult) -> None:
    if parts.netloc:
        raise RepositoryInvalid("A file:// URL names a path on this machine: file:///absolute/path")


def _check_scp_like(url: str) -> None:
    match = _SCP_LIKE.fullmatch(url)
    if not match:
        raise RepositoryInvalid(f"“{url[:100]}” is neither a URL nor an absolute path. {_HELP}")
    user, host, path = match.groups()
    if not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(user)):
        raise RepositoryInvalid(f"“{url[:100]}” has no valid host. {_HELP}")
    if path.startswith(("-", ":")):
        raise RepositoryInvalid(f"“{url[:100]}” has no path to a repository.")


def _is_local(url: str) -> bool:
    return url.startswith(("/", "file://"))
