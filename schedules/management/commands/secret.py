"""Set, list and delete the secrets that sessions may be given. No value is ever printed."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from schedules import vault
from schedules.management.exits import Exit, ExitingCommand, Stop, suggestion, whoever
from schedules.management.tables import listing, show
from schedules.models import Secret, known_secrets
from schedules.rendering.display import counted

_EPILOG = """\
set reads the value from standard input, or asks for it where that is a terminal. It is never an argument, which every
process of the machine could read. The newline at its end is no part of it.

  bin/manage secret set DEPLOY_TOKEN                     asks
  bin/manage secret set SSH_KEY < ~/.ssh/deploy_key      reads

exit codes:
  0  done
  1  a secret can't be decrypted
  2  usage: not a name, too short a value
  3  there is no secret of that name
  4  refused: a schedule asks for it
  5  infrastructure: no database, migrations missing
"""


class Command(ExitingCommand):
    help = "Set, list and delete the secrets that sessions may be given."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        setting = verbs.add_parser("set", help="set one, or give it a new value")
        setting.add_argument("name", metavar="NAME", help="the variable that sessions find it in")
        setting.add_argument("--description", help="what it opens, and where to get a new one")
        listing = verbs.add_parser("list", help="all of them, without their values")
        listing.add_argument("--json", action="store_true", dest="as_json", help="print a JSON list")
        verbs.add_parser("delete", help="delete one that no schedule asks for").add_argument("name", metavar="NAME")
        verbs.add_parser("rotate", help="encrypt all of them anew, with the first key of ROTA_SECRETS_KEY")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {"set": self._set, "list": self._list, "delete": self._delete, "rotate": self._rotate}
        try:
            verbs[options["verb"]](options)
        except vault.Refused as refused:
            raise Stop(Exit.USAGE, str(refused)) from None
        except vault.InUse as refused:
            raise Stop(Exit.REFUSED, str(refused)) from None
        except vault.Unreadable as error:
            raise Stop(Exit.FAILED, str(error)) from None

    def _set(self, options: Mapping[str, Any]) -> None:
        name = options["name"]
        vault.check_name(name)
        is_new = vault.put(name, _given(name), by=whoever(), now=timezone.now(), description=options["description"])
        print(f"{name} {'is set' if is_new else 'has a new value'}.", file=self.notices)

    def _list(self, options: Mapping[str, Any]) -> None:
        listed = _listed()
        if options["as_json"]:
            print(json.dumps(listed, indent=2), file=self.results)
            return
        if not listed:
            print("There is no secret yet: bin/manage secret set NAME.", file=self.notices)
            return
        headings = ("name", "kept in", "set", "by", "asked for by", "description")
        show(listing(headings, map(_cells, listed)), on=self.results, options=options)

    def _delete(self, options: Mapping[str, Any]) -> None:
        name = options["name"]
        if not vault.delete(name, by=whoever()):
            names = list(Secret.objects.values_list("name", flat=True))
            near = suggestion(name, names, listing="secret list") if names else "The table has none."
            raise Stop(Exit.UNKNOWN, f"There is no secret “{name}” in the table. {near}")
        print(f"{name} is deleted.", file=self.notices)

    def _rotate(self, options: Mapping[str, Any]) -> None:
        print(f"{counted(vault.rotate(), 'secret')} encrypted with the first key.", file=self.notices)


def _given(name: str) -> str:
    """The value, from whoever types or pipes it."""
    if sys.stdin.isatty():
        try:
            return getpass.getpass(f"Value of {name} (it is not shown): ")
        except EOFError:
            raise Stop(Exit.INTERRUPTED) from None
    try:
        return vault.without_last_newline(sys.stdin.buffer.read(vault.LONGEST + 2).decode())
    except UnicodeDecodeError:
        raise Stop(Exit.USAGE, "The value is not UTF-8 text. Give it as base64.") from None


def _listed() -> list[dict[str, Any]]:
    rows = {secret.name: secret for secret in Secret.objects.all()}
    unreadable = set(vault.unreadable())
    names = known_secrets()
    users = vault.users(names)
    return [
        {
            "name": name,
            "kept_in": "table" if row else "environment",
            "description": row.description if row else "",
            "set_at": row.set_at.isoformat() if row else None,
            "set_by": row.set_by if row else "",
            "is_readable": name not in unreadable,
            "schedules": users[name],
        }
        for name, row in ((name, rows.get(name)) for name in names)
    ]


def _cells(secret: dict[str, Any]) -> tuple[str, ...]:
    place = secret["kept_in"] if secret["is_readable"] else "table, can't be decrypted here"
    since = (secret["set_at"] or "")[:16].replace("T", " ")
    return secret["name"], place, since, secret["set_by"], ", ".join(secret["schedules"]), secret["description"]
