"""The schedule's own prompt, script or function: with a repository or without."""

from schedules.targets import Item


class Custom:
    def item(self) -> Item:
        return Item(key="prompt")
