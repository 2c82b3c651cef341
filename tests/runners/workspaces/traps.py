"""A program that tells when it was run, and configuration of git's in which everything is that program."""

import shlex
from pathlib import Path

from tests.runners.workspaces.programs import program


class Trap:
    """A program that leaves a line when it runs."""

    def __init__(self, folder: Path) -> None:
        self._sprung = folder / "sprung"
        self.path = program(folder / "trap", "trap", f'echo "$0" "$@" >> {shlex.quote(str(self._sprung))}\ncat')

    @property
    def sprung(self) -> str:
        return self._sprung.read_text() if self._sprung.exists() else ""


def set_every_program(git_dir: Path, trap: Trap, tmp_path: Path) -> None:
    """Configuration in which everything that git can start is the trap."""
    included = tmp_path / "included"
    included.write_text(f"[core]\n\tfsmonitor = {trap.path}\n\teditor = {trap.path}\n")
    hooks = tmp_path / "hooks"
    for name in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        program(hooks, name, f"exec {trap.path}")
        program(git_dir / "hooks", name, f"exec {trap.path}")
    with (git_dir / "config").open("a") as config:
        config.write(
            f"""
[include]
	path = {included}
[core]
	fsmonitor = {trap.path}
	hooksPath = {hooks}
	pager = {trap.path}
	editor = {trap.path}
	sshCommand = {trap.path}
	gitProxy = {trap.path}
	askPass = {trap.path}
	alternateRefsCommand = {trap.path}
[filter "trap"]
	clean = {trap.path}
	smudge = {trap.path}
	process = {trap.path}
	required = true
[filter "lfs"]
	clean = {trap.path}
	smudge = {trap.path}
[diff]
	external = {trap.path}
[diff "trap"]
	command = {trap.path}
	textconv = {trap.path}
[merge "trap"]
	driver = {trap.path}
[uploadpack]
	packObjectsHook = {trap.path}
[gpg]
	program = {trap.path}
[commit]
	gpgSign = true
[credential]
	helper = {trap.path}
[sequence]
	editor = {trap.path}
[alias]
	diff-files = !{trap.path}
	ls-files = !{trap.path}
[url "ext::{trap.path} "]
	insteadOf = /
	insteadOf = https://
[protocol "ext"]
	allow = always
[extensions]
	partialClone = origin
[remote "origin"]
	url = ext::{trap.path}
	promisor = true
[maintenance]
	auto = true
[gc]
	auto = 1
"""
        )
