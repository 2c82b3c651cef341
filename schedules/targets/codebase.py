"""The codebase of a repository, as a whole."""

from schedules.targets import Item


class Codebase:
    def item(self) -> Item:
        return Item(key="codebase")
