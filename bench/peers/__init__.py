"""Schedulers under the same burst: so many schedules are due at once, until each is enqueued.

Each module has `measure(count) -> Figures` and says in its docstring how it is set up and when it counts as done. It is
run in a process of its own, `python -m bench.peers NAME COUNT`, with a Valkey and a database of its own.
"""
