"""Hints name tools, as models call them; at a terminal the same is a command."""

from __future__ import annotations

import re

TOOL = re.compile(r"`?\b(?P<tool>[a-z]+_[a-z_]+)\b(?P<arguments>(?: [a-z_]+=[^\s,;:)`]*[^\s,;:.)`])*)`?")
SWITCH = re.compile(r"(?<=\s)(?P<name>[a-z_]+)=true\b")


def for_terminal(hint: str) -> str:
    """`space_list shows …` as "`mcp-spaces space list` shows …". What is no tool stays as it is."""
    told = TOOL.sub(_as_command, hint)
    if told == hint:
        return hint
    return SWITCH.sub(lambda found: "--" + found["name"].replace("_", "-"), told)


def _as_command(found: re.Match[str]) -> str:
    from mcp_spaces.catalogue import CATALOGUE
    from mcp_spaces.cli.command_line import command_line
    from mcp_spaces.cli.fields import arguments_of

    operation = next((one for one in CATALOGUE if one.tool == found["tool"]), None)
    if operation is None:
        return found.group()
    given = dict(pair.split("=", 1) for pair in found["arguments"].split())
    if given.keys() - {one.name for one in arguments_of(operation)}:
        return found.group()
    return f"`{command_line(operation, given)}`"
