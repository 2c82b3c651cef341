"""The first repository and the example schedules, for a fresh installation."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import chain, count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from schedules.management.exits import Exit, ExitingCommand, Stop, whoever
from schedules.manifests import EXAMPLES, Manifest, ManifestError, apply, read
from schedules.models import Repository, Schedule

_EPILOG = """\
Once there is a repository or a schedule, this does nothing: what you edited stays as it is, and what you deleted
stays deleted. --force creates the examples that are missing; it changes none that is there.

exit codes:
  0  done, or nothing to do
  1  the examples don't fit this installation's settings; nothing was created
  2  usage: --repository-path is not a git repository
  5  infrastructure: no database, migrations missing, no git
"""


class Command(ExitingCommand):
    help = "Register a checkout as the first repository, and create the shipped commands and example schedules."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--repository-path", type=Path, metavar="PATH", help="default: Rota's own checkout")
        parser.add_argument("--force", action="store_true", help="create what is missing, in a used installation too")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["force"] and (Schedule.objects.exists() or Repository.objects.exists()):
            print("Nothing to do: there is a repository or a schedule already.", file=self.notices)
            return
        given: Path | None = options["repository_path"]
        path = (given or Path(settings.BASE_DIR)).resolve()
        obstacle = _obstacle(path)
        if obstacle and given:
            raise Stop(Exit.USAGE, obstacle)
        manifest = read(EXAMPLES)
        if obstacle:
            manifest = Manifest(source=manifest.source, commands=manifest.commands)
        try:
            with transaction.atomic():
                repositories = [] if obstacle else [self._registered(path)]
                applied = apply(
                    manifest, repositories=repositories, only_missing=True, by=whoever(), now=timezone.now()
                )
        except ManifestError as error:
            raise Stop(Exit.FAILED, f"{error}\nNothing was created.") from error
        for name in applied.created:
            print(f"Created the {name}.", file=self.results)
        if obstacle:
            print(
                f"{obstacle} So there is no repository and no example schedule yet: "
                "bin/manage loadexamples --repository-path PATH takes any checkout of yours.",
                file=self.notices,
            )

    def _registered(self, path: Path) -> Repository:
        """The repository of that path, made when there is none."""
        repository = Repository.objects.filter(url=str(path)).first()
        if repository is None:
            repository = Repository(slug=_free_slug(path.name), url=str(path))
            repository.full_clean()
            repository.save()
            print(f"Created the repository {repository} from {path}.", file=self.results)
        return repository


def _free_slug(folder: str) -> str:
    """A short name that is valid and not taken, as near to the folder's as can be."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("._-")[:70] or "repository"
    taken = set(Repository.objects.filter(slug__startswith=slug).values_list("slug", flat=True))
    numbered = (f"{slug}-{number}" for number in count(2))
    return next(free for free in chain([slug], numbered) if free not in taken)


def _obstacle(path: Path) -> str:
    """Why sessions can't work on a path, "" when they can: it has to be a git repository with a commit."""
    if not path.is_dir():
        return f"{path} is not a folder."
    argv = ["git", "-c", "safe.directory=*", "-C", str(path), "rev-parse", "--quiet", "--verify", "HEAD^{commit}"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        # A folder inside of somebody else's checkout is none.
        "GIT_CEILING_DIRECTORIES": str(path.parent),
    }
    try:
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except FileNotFoundError:
        raise Stop(Exit.INFRASTRUCTURE, "git is not on PATH. Install it.") from None
    if done.returncode == 0:
        return ""
    return f"{path} has no commit yet." if done.returncode == 1 else f"{path} is not a git repository."
