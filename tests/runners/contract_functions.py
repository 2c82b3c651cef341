"""Functions of an operator's own, as the contract suite makes the function runner call them."""

from __future__ import annotations

import time

from runners.functions import FunctionContext


def succeed(context: FunctionContext) -> str:
    return "I am Ada."


def edit(context: FunctionContext) -> str:
    (context.workspace / "notes.md").write_text("Written.\n")
    return "I wrote it."


def fail(context: FunctionContext) -> str:
    raise LookupError("no such table")


def hang(context: FunctionContext) -> str:
    print("up")
    time.sleep(600)
    return "never"


def flood(context: FunctionContext) -> str:
    for number in range(5000):
        print(number, "x" * 100)
    return "Done."
