"""The commands that a person types most, each a thin line over operations."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mcp_spaces.cli import answers, calls
from mcp_spaces.cli.wire import Answer

PAGE = 50


def list_spaces(context: typer.Context, as_json: calls.AsJson = False) -> None:
    """Every space that you can see."""
    spaces: list[Any] = []
    cursor = ""
    while True:
        page = calls.call(context, "space.list", {"limit": PAGE, "cursor": cursor}, as_json=as_json).content
        assert isinstance(page, dict)  # noqa: S101 - the operation's output is an object
        spaces += page["spaces"]
        cursor = page.get("next_cursor") or ""
        if not cursor:
            break
    answers.present("space.list", Answer({"spaces": spaces}), as_json=as_json)


def approve(
    context: typer.Context,
    approval: Annotated[str | None, typer.Argument(help="What to decide; without it: everything that waits.")] = None,
    deny: Annotated[bool, typer.Option("--deny", help="Say no instead of yes.")] = False,
    as_json: calls.AsJson = False,
) -> None:
    """Say yes, or no, to exactly one call of an agent."""
    if approval is None:
        if deny:
            raise typer.BadParameter("--deny needs the id of an approval.", ctx=context)
        operation_id, arguments = "approval.list", {}
    else:
        operation_id, arguments = f"approval.{'deny' if deny else 'grant'}", {"approval": approval}
    answer = calls.call(context, operation_id, arguments, as_json=as_json)
    answers.present(operation_id, answer, as_json=as_json)


def runs(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="One run, with its events; without it: the latest ones.")] = None,
    space: Annotated[str | None, typer.Option("--space", help="Only runs in this space.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many.")] = 20,
    as_json: calls.AsJson = False,
) -> None:
    """What was called, by whom, and how it ended."""
    if run is not None:
        answer = calls.call(context, "run.get", {"run": run}, as_json=as_json)
        answers.present("run.get", answer, as_json=as_json)
        return
    arguments: dict[str, Any] = {"limit": limit}
    if space is not None:
        arguments["space"] = space
    answer = calls.call(context, "run.list", arguments, as_json=as_json)
    within = "" if space is None else f" --space {shlex.quote(space)}"
    answers.present("run.list", answer, as_json=as_json, more=f"mcp-spaces run list{within} --limit {limit}")


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; a new file on the daemon's machine.")],
    include_files: Annotated[
        bool, typer.Option("--include-files", help="Also copy stored files and artifacts, to FILE.blobs.")
    ] = False,
    as_json: calls.AsJson = False,
) -> None:
    """Copy the daemon's database while it runs."""
    arguments = {"path": str(file.absolute()), "include_files": include_files}
    answer = calls.call(context, "state.backup", arguments, as_json=as_json)
    answers.present("state.backup", answer, as_json=as_json)
