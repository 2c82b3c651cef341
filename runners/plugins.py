"""Plugins of Claude Code that a schedule names: folders whose hooks are run, outside of every permission.

So it is one of the repository, by its path there, where the schedule trusts that; or one below a folder that a setting
allows, by its absolute path. In both cases the folder is the one that is meant, and no link to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from runners.base import OptionsInvalid

MANIFEST: Final = ".claude-plugin/plugin.json"


def problem(plugins: object, *, folders: Sequence[str], trusted: bool) -> str:
    """What is wrong with them, as far as no file tells; empty when all is well."""
    if not isinstance(plugins, list | tuple):
        return "Give a list of folders, such as tools/reviewer."
    for plugin in plugins:
        path = PurePosixPath(plugin) if isinstance(plugin, str) else PurePosixPath()
        if not path.parts or ".." in path.parts or any(ord(sign) < 32 for sign in str(plugin)):
            return f"{plugin!r} is no folder of a plugin. Give a path in the repository, or an absolute one."
        if path.is_absolute() and not any(path.is_relative_to(folder) for folder in folders):
            allowed = ", ".join(folders) or "none"
            return f"{plugin} is in no allowed folder. ROTA_PLUGIN_FOLDERS has: {allowed}."
        if not path.is_absolute() and not trusted:
            return f"{plugin} is code of the repository: trust it first (project among the setting sources)."
    return ""


def found(plugins: Sequence[str], *, workspace: Path, folders: Sequence[str]) -> list[Path]:
    """Their folders, without links. Raises OptionsInvalid for what is not there, or not where it seems to be."""
    top = workspace.resolve()
    homes = [Path(folder).resolve() for folder in folders]
    paths = []
    for plugin in plugins:
        path = (top / plugin).resolve()
        if not any(path.is_relative_to(home) for home in (homes if plugin.startswith("/") else [top])):
            raise OptionsInvalid({"plugins": f"{plugin} leads to {path}, where no plugin may be."})
        if not (path / MANIFEST).is_file():
            raise OptionsInvalid({"plugins": f"{plugin} is no plugin: it has no {MANIFEST}."})
        paths.append(path)
    return paths
