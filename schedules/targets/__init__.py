"""A run becomes items: what its sessions work on, one each.

A target whose run has a single item names it at once, in the transaction that fires the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.conf import settings
from django.utils.module_loading import import_string


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What one session works on. `key` tells it from the others of its run, such as `issue/12`.

    `data` holds the texts that fill a prompt: `number`, `title`, `body`, `head_ref`, `base_ref`, where it has them.
    """

    key: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Target(Protocol):
    def item(self) -> Item:
        """The run's single item."""


def load_target(name: str) -> Target:
    """The target that the setting ROTA_TARGETS names. Raises KeyError for one that it doesn't."""
    target: Target = import_string(settings.ROTA_TARGETS[name])()
    return target
