"""What `doctor` looks at. Each check says what it saw, never raises, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mcp_spaces
from mcp_spaces import places
from mcp_spaces.cli import wire
from mcp_spaces.cli.local import connected
from mcp_spaces.cli.wire import NoDaemon
from mcp_spaces.sandbox.port import Wall

if TYPE_CHECKING:
    from mcp_spaces.settings import Settings

FREE_BYTES_NEEDED = 2 << 30
"""A workspace of the default size; the database and the logs need little."""
ENGINE_ANSWERS_S = 30.0
DAEMON_ANSWERS_S = 10.0
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


@dataclass(frozen=True, slots=True)
class Check:
    """A wall or a prerequisite. `needed`: nothing works, or nothing is safe, without it."""

    wall: Wall
    needed: bool = True


def everything(environment: Mapping[str, str]) -> list[Check]:
    state = Path(places.state_directory(environment))
    return [
        Check(python()),
        Check(system()),
        Check(state_directory(state)),
        Check(space_left(state)),
        Check(socket_path(str(state))),
        *daemon(str(state)),
        *configured(environment),
    ]


def python() -> Wall:
    version = ".".join(map(str, sys.version_info[:3]))
    return Wall("python", sys.version_info >= (3, 11), f"{version} at {sys.executable}", "install Python 3.11 or newer")


def system() -> Wall:
    return Wall("system", sys.platform == "linux", sys.platform, "run the daemon on Linux")


def state_directory(state: Path) -> Wall:
    """Owner and mode, as the daemon will insist on."""
    name = "state"
    try:
        found = state.lstat()
    except FileNotFoundError:
        parent = next(one for one in state.parents if one.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Wall(name, True, f"{state} will be made")
        return Wall(
            name, False, f"{parent} cannot be written", f"export {places.STATE_DIRECTORY_VARIABLE}=~/mcp-spaces"
        )
    except OSError as error:
        return Wall(name, False, f"{state}: {error.strerror}", f"export {places.STATE_DIRECTORY_VARIABLE}=~/mcp-spaces")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return Wall(
            name,
            False,
            f"{state} is no directory of this user",
            f"export {places.STATE_DIRECTORY_VARIABLE}=~/mcp-spaces",
        )
    if found.st_mode & 0o077:
        return Wall(name, False, f"others may read {state}", f"chmod 700 {state}")
    return Wall(name, True, f"{state}, mode 0700")


def space_left(state: Path) -> Wall:
    existing = next(one for one in (state, *state.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / (1 << 30):.1f} GiB free in {existing}"
    return Wall("disk space", free >= FREE_BYTES_NEEDED, found, "" if free >= FREE_BYTES_NEEDED else "free 2 GiB there")


def socket_path(state: str) -> Wall:
    """The kernel's limit for the path of a socket."""
    length = len(os.fsencode(places.operator_socket(state)))
    holds = length <= 107
    mend = "" if holds else f"export {places.STATE_DIRECTORY_VARIABLE}=~/mcp-spaces"
    return Wall("socket path", holds, f"{length} of 107 bytes", mend)


def daemon(state: str) -> Iterator[Check]:
    """Whether one runs, and its version. None is needed: the first client starts one."""
    try:
        connection = connected(places.operator_socket(state))
    except NoDaemon as problem:
        yield Check(Wall("daemon", False, problem.message, problem.hint))
        return
    if connection is None:
        yield Check(Wall("daemon", False, "none runs; the first client starts one", "mcp-spaces list"), needed=False)
        return
    with connection:
        yield _version(connection)


def configured(environment: Mapping[str, str]) -> list[Check]:
    """The environment's settings, and what they make of the sandboxes."""
    from mcp_spaces.errors import SpacesError
    from mcp_spaces.settings import read_settings

    try:
        settings = read_settings(environment)
    except SpacesError as error:
        return [Check(Wall("settings", False, error.message, error.hint))]
    return [
        Check(Wall("settings", True, "every variable is known")),
        Check(vault_key(settings)),
        *sandboxes(settings),
        *browsers(settings),
    ]


def _version(connection: socket.socket) -> Check:
    """What the daemon that listens says of itself."""
    name = "daemon"
    connection.settimeout(DAEMON_ANSWERS_S)
    try:
        connection.sendall(wire.request("server/discover") + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline())
        version = str(answer["result"]["_meta"][SERVER_INFO]["version"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Check(
            Wall(name, False, f"it does not answer ({type(error).__name__})", "see daemon.log in the state folder")
        )
    if version != mcp_spaces.__version__:
        found = f"version {version} runs, {mcp_spaces.__version__} is installed"
        return Check(Wall(name, False, found, "stop the running one (SIGTERM); the next client starts the new one"))
    return Check(Wall(name, True, f"version {version} answers"))


def vault_key(settings: Settings) -> Wall:
    """Where the vault's master key is, or would be. An existing vault's own word is in the daemon's database."""
    from mcp_spaces.vault.master_key import FILE_NAME, KEY_VARIABLE, PASSPHRASE_VARIABLE, system_keyring

    name, file = "vault key", settings.state_dir / FILE_NAME
    if settings.vault_key_source == "environment" or KEY_VARIABLE in os.environ:
        return Wall(name, True, f"{KEY_VARIABLE}, read once when the daemon starts")
    if settings.vault_key_source == "passphrase" or PASSPHRASE_VARIABLE in os.environ:
        return Wall(name, True, f"a passphrase in {PASSPHRASE_VARIABLE}, read once when the daemon starts")
    if file.exists():
        private = not file.stat().st_mode & 0o077
        return Wall(name, private, f"the file {file}", "" if private else f"chmod 600 {file}")
    if settings.vault_key_source != "file" and system_keyring() is not None:
        return Wall(name, True, "the OS keyring")
    if settings.vault_key_source == "keyring":
        return Wall(name, False, "no OS keyring can be used", "export MCP_SPACES_VAULT_KEY_SOURCE=file")
    return Wall(name, True, f"no OS keyring is used: a new vault's is kept in the file {file}, mode 0600")


def browsers(settings: Settings) -> list[Check]:
    """The chosen driver's own word. Whoever uses no browser needs none of it."""
    import anyio

    found: list[Wall] = []

    async def look() -> None:
        import logging
        import tempfile

        from mcp_spaces.app import browser_driver

        logging.getLogger("mcp_spaces.browser").addHandler(logging.NullHandler())

        with anyio.move_on_after(ENGINE_ANSWERS_S), tempfile.TemporaryDirectory() as folder:
            driver = browser_driver(settings.model_copy(update={"state_dir": Path(folder)}), "doctor")
            found.extend(await driver.walls())
            await driver.aclose()
            return
        found.append(Wall("browser engine", False, f"no answer within {ENGINE_ANSWERS_S:g} s", ""))

    anyio.run(look)
    return [Check(wall, needed=False) for wall in found]


def sandboxes(settings: Settings) -> list[Check]:
    """The driver's own word on its walls."""
    import anyio

    found: list[Wall] = []

    async def look() -> None:
        import logging

        from mcp_spaces.sandbox.docker import DockerDriver

        quiet = logging.getLogger("mcp_spaces.doctor")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        with anyio.move_on_after(ENGINE_ANSWERS_S):
            driver = DockerDriver(
                instance_id="doctor",
                state_dir=settings.state_dir,
                image=settings.sandbox_image,
                pool_size=0,
                docker_url=settings.docker_host,
                log=quiet,
            )
            found.extend(await driver.walls())
            await driver.aclose()
            return
        found.append(Wall("engine", False, f"no answer within {ENGINE_ANSWERS_S:g} s", "docker version    # says why"))

    anyio.run(look)
    # Without a kernel-enforced disk limit sandboxes run, and say so.
    return [Check(wall, needed=wall.name not in ("disk", "cores")) for wall in found]
