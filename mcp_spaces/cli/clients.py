"""Where each MCP client keeps its configuration, and how an entry looks there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcp_spaces import places

NAME = "spaces"
TOKEN_VARIABLE = "SPACES_TOKEN"  # noqa: S105 - the name of one


class Client(StrEnum):
    CLAUDE_CODE = "claude-code"
    CURSOR = "cursor"
    VSCODE = "vscode"
    CODEX = "codex"
    CLAUDE_DESKTOP = "claude-desktop"


class Scope(StrEnum):
    USER = "user"
    PROJECT = "project"


class NotPossible(ValueError):
    """This client cannot be configured so."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a client spawns us: an absolute path, since it does not know our virtual environment."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """What has to stand in `file`: `value` at `path`. `also` is put beside it where it is missing."""

    file: Path
    path: tuple[str, ...]
    value: Mapping[str, Any]
    also: Mapping[str, Any]


OF_COMMANDS = frozenset({places.STATE_DIRECTORY_VARIABLE, "MCP_SPACES_SERVER", "MCP_SPACES_KEY"})


def not_carried_over(environment: Mapping[str, str]) -> list[str]:
    """What a daemon that is started here would be given, and one that the client starts only if it has it too. Not
    written into its configuration: some of it is secret."""
    return sorted(
        name
        for name in environment
        if name == "DOCKER_HOST" or (name.startswith("MCP_SPACES_") and name not in OF_COMMANDS)
    )


def launch(environment: Mapping[str, str]) -> Launch:
    """This installation's `mcp-spaces stdio`, with the state directory where it is not the usual one."""
    variable = places.STATE_DIRECTORY_VARIABLE
    env = {variable: places.state_directory(environment)} if environment.get(variable) else {}
    # Not resolved: the link inside a virtual environment is what makes it one.
    beside = Path(os.path.abspath(sys.executable)).parent / "mcp-spaces"  # noqa: PTH100
    if beside.exists():
        return Launch(str(beside), ("stdio",), env)
    return Launch(os.path.abspath(sys.executable), ("-m", "mcp_spaces", "stdio"), env)  # noqa: PTH100


def entry(
    client: Client, scope: Scope, *, url: str | None, launch: Launch, home: Path, project: Path, platform: str
) -> Entry:
    """Raises NotPossible."""
    file = _file(client, scope, home=home, project=project, platform=platform)
    path: tuple[str, ...] = ("mcpServers", NAME)
    also: dict[str, Any] = {}
    value: dict[str, Any]
    stdio: dict[str, Any] = {"command": launch.command, "args": list(launch.args)}
    if launch.env:
        stdio["env"] = dict(launch.env)
    token = "${" + TOKEN_VARIABLE + "}"
    match client:
        case Client.CLAUDE_CODE:
            value = {"type": "stdio", **stdio} if url is None else _http(url, token, type="http")
        case Client.CURSOR:
            value = stdio if url is None else _http(url, "${env:" + TOKEN_VARIABLE + "}")
        case Client.VSCODE:
            path = ("servers", NAME)
            value = {"type": "stdio", **stdio}
            if url is not None:
                value = _http(url, "${input:spaces-token}", type="http")
                asked = {
                    "type": "promptString",
                    "id": "spaces-token",
                    "description": "mcp-spaces key",
                    "password": True,
                }
                also = {"inputs": [asked]}
        case Client.CODEX:
            path = ("mcp_servers", NAME)
            value = stdio if url is None else {"url": url, "bearer_token_env_var": TOKEN_VARIABLE}
        case Client.CLAUDE_DESKTOP:
            if url is not None:
                raise NotPossible("Claude Desktop takes no URLs in its file; install it without --http.")
            value = stdio
    return Entry(file, path, value, also)


def claude_command(scope: Scope, *, url: str | None, launch: Launch) -> str:
    """The line that does the same through Claude Code itself."""
    import shlex

    words = ["claude", "mcp", "add", "--scope", scope.value]
    if url is not None:
        return f'{shlex.join([*words, "--transport", "http", NAME, url])} --header "Authorization: Bearer ${TOKEN_VARIABLE}"'
    env = [word for name, value in launch.env.items() for word in ("--env", f"{name}={value}")]
    return shlex.join([*words, NAME, *env, "--", launch.command, *launch.args])


def _http(url: str, token: str, **more: str) -> dict[str, Any]:
    return {**more, "url": url, "headers": {"Authorization": f"Bearer {token}"}}


def _file(client: Client, scope: Scope, *, home: Path, project: Path, platform: str) -> Path:
    config = home / "Library/Application Support" if platform == "darwin" else home / ".config"
    match client, scope:
        case Client.CLAUDE_CODE, Scope.USER:
            return home / ".claude.json"
        case Client.CLAUDE_CODE, Scope.PROJECT:
            return project / ".mcp.json"
        case Client.CURSOR, Scope.USER:
            return home / ".cursor/mcp.json"
        case Client.CURSOR, Scope.PROJECT:
            return project / ".cursor/mcp.json"
        case Client.VSCODE, Scope.USER:
            return config / "Code/User/mcp.json"
        case Client.VSCODE, Scope.PROJECT:
            return project / ".vscode/mcp.json"
        case Client.CODEX, Scope.USER:
            return home / ".codex/config.toml"
        case Client.CODEX, Scope.PROJECT:
            return project / ".codex/config.toml"
        case Client.CLAUDE_DESKTOP, Scope.USER:
            return config / "Claude/claude_desktop_config.json"
        case _:
            raise NotPossible(f"{client.value} has no configuration of a {scope.value}; leave --scope out.")
