"""What all of Rota's commands have in common."""

import argparse
from pathlib import Path

import pytest
from django.core.management import load_command_class

from schedules.management import commands
from schedules.management.exits import ExitingCommand

COMMANDS = sorted(file.stem for file in Path(next(iter(commands.__path__))).glob("[a-z]*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_names_a_command_and_its_verbs_as_people_type_them(name: str) -> None:
    command = load_command_class("schedules", name)
    assert isinstance(command, ExitingCommand)

    parser = command.create_parser("/srv/rota/manage.py", name)

    assert parser.format_usage().startswith(f"usage: bin/manage {name} ")
    verbs = [part.choices for part in parser._actions if isinstance(part, argparse._SubParsersAction)]
    for verb, below in (pair for choices in verbs for pair in choices.items()):
        assert below.prog == f"bin/manage {name} {verb}"
