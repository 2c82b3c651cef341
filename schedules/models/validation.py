"""What makes a schedule one that can run: every refusal, at the field where it belongs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import MAXYEAR, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings

from runners import (
    OF_EVERY_SESSION,
    environment_problems,
    host_problem,
    load_runner,
    mcp_variables,
    unreachable_model,
    unreachable_servers,
)
from schedules import placeholders, timetable
from schedules.models.command import Target
from schedules.models.secret import unknown_secrets

if TYPE_CHECKING:
    from schedules.models.schedule import Schedule

_SHORTEST_TIMEOUT = timedelta(seconds=1)
_LONGEST_TIMEOUT = timedelta(days=2)
LONGEST_CATCH_UP = timedelta(days=31)

# Fields that hold a JSON object of any shape → one that would do.
_OBJECTS = {
    "arguments": '{"limit": 50}',
    "agents": '{"reviewer": {"description": "Reviews code", "prompt": "You review code."}}',
    "mcp_servers": '{"forge": {"command": "forge-mcp"}}',
    "json_schema": '{"type": "object", "properties": {"verdict": {"type": "string"}}}',
}

Problems = dict[str, list[str]]


def schedule_problems(schedule: Schedule, *, rehearsed: bool = False) -> Problems:
    """Field name → sentences. Empty when the schedule can run; `rehearsed`: when it can with a scripted model.

    A rehearsal goes without the secrets that nobody has set: its report tells them.
    """
    problems: Problems = {}
    parts = (_when, _limits, _shapes, _target, _runner, _prompt)
    for part in parts if rehearsed else (*parts, _unset_secrets):
        for field, message in part(schedule):
            problems.setdefault(field, []).append(message)
    return problems or ({} if rehearsed else _model(schedule))


def _when(schedule: Schedule) -> list[tuple[str, str]]:
    try:
        timetable.validate(schedule.cron or "@daily", schedule.time_zone)
    except timetable.TimetableError as error:
        return [(error.field, str(error))]
    if schedule.at:
        return _once(schedule)
    if schedule.starts_at and schedule.starts_at.year >= MAXYEAR:
        return [("starts_at", f"Give a time before the year {MAXYEAR}: there the calendar ends.")]
    return []


def _once(schedule: Schedule) -> list[tuple[str, str]]:
    at = schedule.at
    if at and schedule.cron:
        return [("at", "Give a cron line or one time, not both.")]
    early = at and schedule.starts_at and at < schedule.starts_at
    late = at and schedule.ends_at and at > schedule.ends_at
    return [("at", "This is not between start and end: it would never run.")] if early or late else []


def _limits(schedule: Schedule) -> list[tuple[str, str]]:
    found = []
    if not _SHORTEST_TIMEOUT <= (schedule.timeout or timedelta()) <= _LONGEST_TIMEOUT:
        found.append(("timeout", "Give a time between one second and two days."))
    if schedule.silence is not None and schedule.silence < _SHORTEST_TIMEOUT:
        found.append(("silence", "Give at least one second, or leave it empty for no limit."))
    if schedule.jitter is not None and schedule.jitter < timedelta():
        found.append(("jitter", "Jitter can't be negative."))
    if schedule.catch_up is not None and not timedelta() <= schedule.catch_up <= LONGEST_CATCH_UP:
        found.append(("catch_up", "Give a time between zero and 31 days."))
    return [*found, *_money(schedule)]


def _money(schedule: Schedule) -> list[tuple[str, str]]:
    of_session, of_run = schedule.max_budget_usd, schedule.max_run_usd
    given = {"max_budget_usd": of_session, "max_run_usd": of_run}
    found = [
        (field, "Give more than 0, or leave it empty for no limit.")
        for field, amount in given.items()
        if amount is not None and amount <= 0
    ]
    if not found and of_session is not None and of_run is not None and of_session > of_run:
        found.append(("max_run_usd", f"It holds no session: one may cost {of_session} USD. Give at least as much."))
    return found


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) and entry and "\0" not in entry for entry in value)


def _is_text_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) and "\0" not in text for text in value.values())


def _shapes(schedule: Schedule) -> list[tuple[str, str]]:
    found = []
    agents = ("allowed_tools", "disallowed_tools", "setting_sources", "plugins")
    for field in (*agents, "argv", "secrets", "allowed_hosts", "checks"):
        if not _is_text_list(getattr(schedule, field)):
            found.append((field, 'Give a JSON list of texts, such as ["one", "two"].'))
    for field, problems in (("environment", environment_problems), ("variables", _variable_problems)):
        value = getattr(schedule, field)
        if not _is_text_mapping(value):
            found.append((field, 'Give a JSON object of texts, such as {"NAME": "value"}.'))
        else:
            found += [(field, _naming(name, problem)) for name, problem in problems(value).items()]
    for field, example in _OBJECTS.items():
        if not isinstance(getattr(schedule, field), dict):
            found.append((field, f"Give a JSON object, such as {example}."))
        elif "\\u0000" in json.dumps(getattr(schedule, field)):
            found.append((field, "It has a NUL character, which a database can't hold."))
    if not isinstance(schedule.rehearsal_script, list):
        found.append(("rehearsal_script", "Give a JSON list of turns."))
    if not found:
        found += [*_named_twice(schedule), *_sandbox(schedule), *_handed_over(schedule)]
    return found


def _naming(name: str, problem: str) -> str:
    return problem if name in problem else f"{name}: {problem}"


def _variable_problems(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: "A name has letters, digits and _ only, and no digit at its beginning."
        for name in variables
        if not placeholders.variable_name.match(name)
    }


def _unset_secrets(schedule: Schedule) -> list[tuple[str, str]]:
    return [
        ("secrets", f"There is no secret “{name}”. Set it in the console, or with bin/manage secret set {name}.")
        for name in (unknown_secrets(schedule.secrets) if _is_text_list(schedule.secrets) else ())
    ]


def _named_twice(schedule: Schedule) -> list[tuple[str, str]]:
    both = sorted(set(schedule.secrets) & set(schedule.environment))
    return [("environment", f"{', '.join(both)}: is a secret of this schedule as well. Name it once.")] if both else []


def _handed_over(schedule: Schedule) -> list[tuple[str, str]]:
    """The variables that its MCP servers are to be given."""
    given = {*schedule.environment, *schedule.secrets, *OF_EVERY_SESSION}
    unset = sorted(name for name in mcp_variables(schedule.mcp_servers) - given if not name.startswith("ROTA_"))
    if not unset:
        return []
    return [("mcp_servers", f"{', '.join(unset)}: is neither in the schedule's environment nor one of its secrets.")]


def _sandbox(schedule: Schedule) -> list[tuple[str, str]]:
    found = []
    listed = schedule.network == schedule.Network.ALLOW_LIST
    if schedule.sandbox == schedule.Sandbox.NONE and schedule.network != schedule.Network.HOST:
        found.append(("network", "Only a sandbox can keep a session from the network: choose bubblewrap as well."))
    if listed and not schedule.allowed_hosts:
        found.append(("allowed_hosts", "Name at least one host, or choose no network."))
    if schedule.allowed_hosts and not listed:
        told = schedule.Network.ALLOW_LIST.label
        found.append(("allowed_hosts", f"They would not be heeded: set the network to “{told}”, or name none."))
    problems = (host_problem(entry) for entry in schedule.allowed_hosts)
    found += [("allowed_hosts", problem) for problem in problems if problem]
    return found or _servers_within_reach(schedule)


def _servers_within_reach(schedule: Schedule) -> list[tuple[str, str]]:
    """Whether the sandbox lets it reach its MCP servers. What a secret says is not looked into."""
    if schedule.sandbox == schedule.Sandbox.NONE:
        return []
    known = {name: text for name, text in schedule.environment.items() if name not in schedule.secrets}
    return unreachable_servers(
        schedule.mcp_servers, known, network=schedule.network, allowed_hosts=schedule.allowed_hosts
    )


def _model(schedule: Schedule) -> Problems:
    """Where the agent's model is, by what the session will be given. What a secret says is not looked into."""
    dotted_path = settings.ROTA_RUNNERS.get(schedule.runner)
    if dotted_path is None or schedule.sandbox == schedule.Sandbox.NONE:
        return {}
    credentials = [name for name in load_runner(dotted_path).credentials if name not in schedule.secrets]
    environment = {**schedule.environment, **{name: text for name, text in settings.ROTA_CREDENTIALS.items() if text}}
    field, message = unreachable_model(
        credentials, environment, network=schedule.network, allowed_hosts=schedule.allowed_hosts
    )
    return {field: [message]} if message else {}


def _target(schedule: Schedule) -> list[tuple[str, str]]:
    if schedule.target in settings.ROTA_TARGETS:
        return []
    known = ", ".join(Target(name).label for name in settings.ROTA_TARGETS)
    return [("target", f"This Rota can't list {schedule.get_target_display()}. It has: {known}.")]


def _runner(schedule: Schedule) -> list[tuple[str, str]]:
    dotted_path = settings.ROTA_RUNNERS.get(schedule.runner)
    if dotted_path is None:
        known = ", ".join(settings.ROTA_RUNNERS)
        return [("runner", f"There is no runner “{schedule.runner}”. There are: {known}.")]
    options: Mapping[str, Any] = schedule.options()
    found = list(load_runner(dotted_path).problems(options).items())
    if schedule.runner == "function" and schedule.function and not options["function_path"]:
        known = ", ".join(settings.ROTA_FUNCTIONS) or "none"
        return [("function", f"“{schedule.function}” is not an allowed function. There are: {known}.")]
    return [("function" if field == "function_path" else field, message) for field, message in found]


def _prompt(schedule: Schedule) -> list[tuple[str, str]]:
    if schedule.command and schedule.prompt:
        return [("prompt", "Choose a command or write a prompt, not both.")]
    if not schedule.is_agent:
        return _no_prompt(schedule)
    field = "command" if schedule.command else "prompt"
    if not schedule.template.strip():
        wanted = "a prompt" if schedule.target == Target.CUSTOM else "a command or a prompt"
        return [
            (
                "prompt",
                f"An agent with the target “{schedule.get_target_display()}” needs {wanted}.",
            )
        ]
    if schedule.command and schedule.command.target != schedule.target:
        return [("command", f"“{schedule.command}” is for {schedule.command.get_target_display()}.")]
    variables = schedule.variables if isinstance(schedule.variables, dict) else {}
    return [(field, text) for text in placeholders.problems(schedule.template, variables)]


def _no_prompt(schedule: Schedule) -> list[tuple[str, str]]:
    found = []
    if schedule.command or schedule.prompt.strip():
        field = "command" if schedule.command else "prompt"
        found.append((field, f"The runner “{schedule.runner}” takes no prompt. Leave it empty."))
    if schedule.persistence != schedule.Persistence.FRESH:
        found.append(("persistence", f"The runner “{schedule.runner}” keeps no conversation. Choose a fresh one."))
    return found
