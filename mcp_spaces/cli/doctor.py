"""`mcp-spaces doctor`: what is missing, the command that mends it, and which walls hold here."""

from __future__ import annotations

import os
from typing import Any

import typer

from mcp_spaces.cli import calls, exits, show


def doctor(as_json: calls.AsJson = False) -> None:
    """What is missing here, the exact command that mends it, and which walls hold. Needs no daemon."""
    from mcp_spaces.cli import checks

    found = checks.everything(os.environ)
    missing = [one for one in found if one.needed and not one.wall.holds]
    if as_json:
        show.print_json({"ok": not missing, "checks": [_plain(one) for one in found]})
    else:
        rows = [
            {
                "check": one.wall.name,
                "": "ok" if one.wall.holds else "MISSING" if one.needed else "not here",
                "found": one.wall.found,
            }
            for one in found
        ]
        show.print_table(rows)
        for one in found:
            if not one.wall.holds and one.wall.mend:
                show.print_line(f"\n{one.wall.name}: run\n    {one.wall.mend}")
        show.print_line("\nsomething needed is missing" if missing else "\neverything needed is here")
    if missing:
        raise typer.Exit(exits.REFUSED)


def _plain(check: Any) -> dict[str, Any]:
    wall = check.wall
    return {"name": wall.name, "ok": wall.holds, "needed": check.needed, "found": wall.found, "mend": wall.mend}
