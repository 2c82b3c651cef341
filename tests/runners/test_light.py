"""What a shim has instead of the standard library does the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners import light

RUNNERS = Path(light.__file__).parent
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_written_and_read_as_ever(value: Any) -> None:
    assert light.dumps(value) == json.dumps(value)
    assert light.loads(json.dumps(value)) == value
    assert light.loads(json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


NO_JSON: tuple[str | bytes, ...] = ("", "{", '{"a" 1}', '{"a": "b', "[1] 2", "[1, ", "nothing", b"\xff", '"a\nb"')


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSONDecodeError is one, and so is UnicodeDecodeError
        light.loads(text)


def test_and_so_it_is_where_nobody_has_imported_json() -> None:
    """As in a shim."""
    program = f"""
import sys
sys.path.insert(0, {str(RUNNERS)!r})
from light import loads
for text in {NO_JSON!r}:
    try:
        loads(text)
    except ValueError:
        continue
    raise AssertionError(text)
assert "json" not in sys.modules
assert loads('{{"a": [1]}}') == {{"a": [1]}}
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", program], stdin=subprocess.DEVNULL, check=True, timeout=60)


def test_what_can_not_be_written_is_told() -> None:
    with pytest.raises(TypeError, match="set is not JSON"):
        light.dumps({"a": {1}})


def test_only_the_errors_that_are_named_end_a_block_in_silence() -> None:
    with light.suppress(KeyError, OSError):
        raise FileNotFoundError
    with pytest.raises(ValueError, match="x"), light.suppress(OSError):
        raise ValueError("x")


@pytest.mark.parametrize("program", ["shim.py", "forker.py"])
def test_a_shim_imports_none_of_what_is_heavy(program: str) -> None:
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", str(RUNNERS / program)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "runners.custody" in imported
    assert not imported & {
        "json",
        "re",
        "enum",
        "contextlib",
        "functools",
        "collections",
        "typing",
        "pathlib",
        "socket",
    }
