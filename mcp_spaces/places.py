"""Where this machine keeps the daemon's state and sockets, by the standard library alone.

The shim and the settings both ask here, so that they never disagree. Importing this costs nothing: the shim has
40 ms from its first instruction to the first answer.
"""
# pathlib takes longer to import than the shim takes to connect
# ruff: noqa: PTH100, PTH111, PTH117, PTH118

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers know the name; importing typing would be the most expensive line here
if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_DIRECTORY_VARIABLE = "MCP_SPACES_STATE_DIR"


def state_directory(environment: Mapping[str, str]) -> str:
    """`MCP_SPACES_STATE_DIR`, else `mcp-spaces` below XDG's state directory. Absolute; may not exist yet."""
    chosen = environment.get(STATE_DIRECTORY_VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        base = os.path.expanduser("~/.local/state")
    return os.path.join(base, "mcp-spaces")


def agent_socket(state: str) -> str:
    """Where agents connect: as the local agent's principal, or with a key."""
    return os.path.join(state, "agent.sock")


def operator_socket(state: str) -> str:
    """Where the operator's commands connect."""
    return os.path.join(state, "operator.sock")


def daemon_log(state: str) -> str:
    """What a daemon that the shim started writes to stderr."""
    return os.path.join(state, "daemon.log")


def daemon_lock(state: str) -> str:
    """Held by the one daemon of this state directory for as long as it lives."""
    return os.path.join(state, "daemon.lock")


def start_lock(state: str) -> str:
    """Held by a shim while it starts the daemon, so that two shims start only one."""
    return os.path.join(state, "start.lock")
