"""Rota on the command line: `bin/manage runschedule`, `schedule`, `loadexamples`. See docs/commands.md."""
