"""How Rota's commands end: one list of exit codes, one sentence on standard error."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from difflib import get_close_matches
from enum import IntEnum
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter
from django.db import InterfaceError, OperationalError, ProgrammingError

from schedules.management.infrastructure import database_problem
from schedules.management.streams import Stream
from schedules.models import Schedule


class Exit(IntEnum):
    """A promise to scripts: docs/commands.md says what each one means."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    REFUSED = 4
    INFRASTRUCTURE = 5
    TIMED_OUT = 124
    INTERRUPTED = 130


_ECHO = 0.5  # seconds in which an interrupt that comes again is the same one


class Stop(Exception):
    """The command ends here. The message is for the person who typed it; empty when all is said."""

    def __init__(self, code: Exit, message: str = "", **facts: Any) -> None:
        self.code = code
        self.facts = facts
        super().__init__(message)


class ExitingCommand(BaseCommand):
    """A command that ends with an `Exit`: `handle` returns, or raises Stop."""

    # They cost seconds (programs, broker), and what a command needs it says itself when it is missing.
    requires_system_checks: tuple[str, ...] = ()
    epilog = ""
    _interrupted_at = float("-inf")

    def run_from_argv(self, argv: list[str]) -> None:
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            super().run_from_argv(argv)
        finally:  # nothing is left to be interrupted but Python's own end
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C may arrive twice: from the terminal, and from a program in between (`timeout`, `make`, `npm`)."""
        now = time.monotonic()
        if now - self._interrupted_at < _ECHO:
            return
        self._interrupted_at = now
        raise KeyboardInterrupt

    def heed_next_interrupt(self) -> None:
        """Somebody is asked something, and may answer with another Ctrl-C at once."""
        self._interrupted_at = float("-inf")

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, formatter_class=_HelpFormatter, epilog=self.epilog, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Before a command adds its own: usage and errors name it, and its verbs, as people type it."""
        parser.prog = f"bin/manage {parser.prog.rpartition(' ')[2]}"

    def execute(self, *args: Any, **options: Any) -> None:
        try:
            super().execute(*args, **options)
        except Stop as stop:
            self._end(stop, options)
        except KeyboardInterrupt:
            self._end(Stop(Exit.INTERRUPTED), options)
        except (OperationalError, InterfaceError, ProgrammingError) as error:
            problem = database_problem(error)
            if problem is None:
                raise
            self._end(Stop(Exit.INFRASTRUCTURE, problem), options)

    def _end(self, stop: Stop, options: Mapping[str, Any]) -> NoReturn:
        if options.get("as_json"):
            facts = {"exit_code": int(stop.code), "message": str(stop), **stop.facts}
            print(json.dumps(facts, indent=2, ensure_ascii=False), file=self.results)
        elif str(stop):
            print(stop, file=self.notices)
        sys.exit(stop.code)

    @property
    def results(self) -> Stream:
        """Standard output: what was asked for."""
        return Stream(self.stdout)

    @property
    def notices(self) -> Stream:
        """Standard error: progress, and what went wrong."""
        return Stream(self.stderr)


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of the epilog as they are."""


def named_schedule(name: str) -> Schedule:
    """The schedule of that name. Raises Stop with what was perhaps meant."""
    schedule = Schedule.objects.select_related("command").filter(name=name).first()
    if schedule is None:
        names = list(Schedule.objects.values_list("name", flat=True))
        raise Stop(Exit.UNKNOWN, f"There is no schedule “{name}”. {suggestion(name, names)}")
    return schedule


def suggestion(name: str, names: list[str], *, listing: str = "schedule list") -> str:
    """What may have been meant by a name that is not one of `names`; else, the command that lists them."""
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"bin/manage {listing} shows those there are." if names else "There is none yet: bin/manage loadexamples."


def whoever() -> str:
    """Who typed the command, as far as the machine knows: at most 150 characters, as the rows have."""
    try:
        return f"{getpass.getuser()} (command line)"[:150]
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()} (command line)"
