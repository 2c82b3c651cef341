"""A command is a template that can be filled."""

import pytest
from django.core.exceptions import ValidationError

from schedules.models import Command


def test_its_placeholders_are_known_ones_and_variables_of_its_schedules() -> None:
    Command(id="codebase/look", name="Look", prompt="Look at {{ repository }}, {{ var.tone }}.").clean()


def test_a_placeholder_that_nobody_fills_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a placeholder"):
        Command(id="codebase/look", name="Look", prompt="Look at {{ titel }}.").clean()
