"""Schedules and commands from files. This is the door.

A format is one function that turns a file into a `Manifest` (values in, values out: nothing is saved); `apply` puts
any manifest into the database, whole or not at all.

    manifest = read(path)
    applied = apply(manifest, repositories=[web_shop], by="ada", now=now)
"""

from pathlib import Path

from schedules.manifests.applying import Applied, apply
from schedules.manifests.manifest import Entry, Manifest, ManifestError, Problem
from schedules.manifests.yaml_file import read

EXAMPLES = Path(__file__).with_name("examples.yaml")
"""The shipped commands and example schedules; its head explains the format."""

__all__ = ["EXAMPLES", "Applied", "Entry", "Manifest", "ManifestError", "Problem", "apply", "read"]
