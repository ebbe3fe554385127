"""What `doctor` looks at. Each check says what it saw, never raises, and changes nothing."""

from __future__ import annotations

import json
import os
import shlex
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
    holds = sys.version_info >= (3, 11)
    return Wall("python", holds, f"{version} at {sys.executable}", "" if holds else "sudo apt-get install python3.11")


def system() -> Wall:
    # No command makes another system of it.
    holds = sys.platform == "linux"
    return Wall("system", holds, sys.platform if holds else f"{sys.platform}: the daemon runs on Linux only", "")


def state_directory(state: Path) -> Wall:
    """Owner and mode, as the daemon will insist on."""
    name = "state"
    try:
        found = state.lstat()
    except FileNotFoundError:
        parent = next(one for one in state.parents if exists(one))
        if os.access(parent, os.W_OK | os.X_OK):
            return Wall(name, True, f"{state} will be made")
        return Wall(name, False, f"{parent} cannot be written", another_place())
    except OSError as error:
        return Wall(name, False, f"{state}: {error.strerror}", another_place())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return Wall(
            name,
            False,
            f"{state} is no directory of this user",
            another_place(),
        )
    if found.st_mode & 0o077:
        return Wall(name, False, f"others may read {state}", f"chmod 700 {shlex.quote(str(state))}")
    return Wall(name, True, f"{state}, mode 0700")


def space_left(state: Path) -> Wall:
    name = "disk space"
    existing = next(one for one in (state, *state.parents) if exists(one))
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Wall(name, False, f"{existing}: {error.strerror}", another_place())
    found = f"{free / (1 << 30):.1f} GiB free in {existing}"
    if free >= FREE_BYTES_NEEDED:
        return Wall(name, True, found, "")
    return Wall(name, False, f"{found}; 2 are needed", f"du -xh --max-depth=1 {shlex.quote(str(existing))} | sort -h")


def exists(path: Path) -> bool:
    """False also where this user may not look."""
    try:
        return path.exists()
    except OSError:
        return False


def another_place() -> str:
    return f"export {places.STATE_DIRECTORY_VARIABLE}=~/mcp-spaces"


def socket_path(state: str) -> Wall:
    """The kernel's limit for the path of a socket."""
    length = len(os.fsencode(places.operator_socket(state)))
    holds = length <= 107
    mend = "" if holds else another_place()
    return Wall("socket path", holds, f"{length} of 107 bytes", mend)


def daemon(state: str) -> Iterator[Check]:
    """Whether one runs, and its version. None is needed: the first client starts one."""
    try:
        connection = connected(places.operator_socket(state))
    except NoDaemon as problem:
        yield Check(Wall("daemon", False, problem.message, another_place()))
        return
    if connection is None:
        yield Check(Wall("daemon", False, "none runs; the first client starts one", "mcp-spaces list"), needed=False)
        return
    with connection:
        yield _version(connection, log=places.daemon_log(state))


def configured(environment: Mapping[str, str]) -> list[Check]:
    """The settings of the environment and the state folder, and what they make of the sandboxes."""
    from mcp_spaces.errors import SpacesError
    from mcp_spaces.settings import FILE, PREFIX, read_settings
    from mcp_spaces.vault.os_keyring import ANSWER_S

    try:
        settings = read_settings(environment)
    except SpacesError as error:
        ours = [name for name in environment if name.startswith(PREFIX) and name != places.STATE_DIRECTORY_VARIABLE]
        culprit = next((name for name in ours if _is_fine_without(name, environment)), None)
        file = Path(places.state_directory(environment)) / FILE
        mend = f"unset {culprit}" if culprit else f"${{EDITOR:-vi}} {shlex.quote(str(file))}"
        return [Check(Wall("settings", False, error.message, mend))]
    # The daemon may be waiting for the keyring itself.
    kept = kept_key(str(settings.state_dir), answers_s=DAEMON_ANSWERS_S + ANSWER_S)
    return [
        Check(Wall("settings", True, "every variable and name is known")),
        Check(kept or vault_key(settings, keyring_answers_s=ANSWER_S)),
        *sandboxes(settings),
        *browsers(settings),
    ]


def _is_fine_without(name: str, environment: Mapping[str, str]) -> bool:
    from mcp_spaces.errors import SpacesError
    from mcp_spaces.settings import read_settings

    try:
        read_settings({variable: value for variable, value in environment.items() if variable != name})
    except SpacesError:
        return False
    return True


def _version(connection: socket.socket, *, log: str) -> Check:
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
            Wall(name, False, f"it does not answer ({type(error).__name__})", f"tail -n 50 {shlex.quote(log)}")
        )
    if version != mcp_spaces.__version__:
        found = f"version {version} runs, {mcp_spaces.__version__} is installed"
        return Check(Wall(name, False, found, "mcp-spaces stop    # the next client starts the new one"))
    return Check(Wall(name, True, f"version {version} answers"))


def kept_key(state: str, *, answers_s: float) -> Wall | None:
    """Where a running daemon says that the master key is; None where none runs, or there is no vault yet."""
    name = "vault key"
    try:
        connection = connected(places.operator_socket(state))
        if connection is None:
            return None
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(answers_s)
            connection.sendall(wire.Request("state_describe", {}).body() + b"\n")
            content = wire.answer_of(json.loads(lines.readline())).content
    except TimeoutError:
        mend = f"tail -n 50 {shlex.quote(places.daemon_log(state))}"
        return Wall(name, False, f"the daemon does not say where it is within {answers_s:g} s", mend)
    except (NoDaemon, wire.Refusal, OSError, ValueError):
        return None
    if not isinstance(content, Mapping) or not (place := content.get("master_key")):
        return None
    if str(place).startswith("/") and not exists(Path(place)):
        mend = f"cp -p /media/elsewhere/master.key {shlex.quote(place)}    # from where you keep its copy"
        return Wall(name, False, f"{place} is gone: without it the vault is locked", mend)
    if str(place).startswith("/") and (shared := shared_key(Path(place))):
        return shared
    if reason := content.get("vault_locked"):
        return Wall(name, False, f"the vault is locked: {reason}", "")
    return Wall(name, True, f"{place}, says the daemon")


def shared_key(file: Path) -> Wall | None:
    """The daemon takes no master key that others may read. None: only its owner may."""
    if not file.stat().st_mode & 0o077:
        return None
    found = f"others may read {file}: the vault is locked until they may not"
    return Wall("vault key", False, found, f"chmod 600 {shlex.quote(str(file))}")


def vault_key(settings: Settings, *, keyring_answers_s: float) -> Wall:
    """Where the vault's master key would be, as this process sees it."""
    from mcp_spaces.errors import WrongState
    from mcp_spaces.vault.given_keys import KEY_VARIABLE, PASSPHRASE_VARIABLE
    from mcp_spaces.vault.key_file import FILE_NAME
    from mcp_spaces.vault.os_keyring import KeyInKeyring, system_keyring

    name, file = "vault key", settings.state_dir / FILE_NAME
    if settings.vault_key_source == "environment" or KEY_VARIABLE in os.environ:
        return Wall(name, True, f"{KEY_VARIABLE}, read once when the daemon starts")
    if settings.vault_key_source == "passphrase" or PASSPHRASE_VARIABLE in os.environ:
        return Wall(name, True, f"a passphrase in {PASSPHRASE_VARIABLE}, read once when the daemon starts")
    if exists(file):
        return shared_key(file) or Wall(name, True, f"the file {file}")
    if settings.vault_key_source != "file":
        try:
            if KeyInKeyring("doctor", system_keyring, answer_s=keyring_answers_s).is_there():
                return Wall(name, True, "the OS keyring")
        except WrongState:
            found = f"the OS keyring does not answer within {keyring_answers_s:g} s"
            mend = "export MCP_SPACES_VAULT_KEY_SOURCE=file    # or unlock it on the desktop"
            return Wall(name, False, found, mend)
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
        from mcp_spaces.browser.driver.playwright import driver_runs

        logging.getLogger("mcp_spaces.browser").addHandler(logging.NullHandler())

        with anyio.move_on_after(ENGINE_ANSWERS_S), tempfile.TemporaryDirectory() as folder:
            driver = browser_driver(settings.model_copy(update={"state_dir": Path(folder)}), "doctor")
            found.extend([*await driver.walls(), await driver_runs()])
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

        from mcp_spaces.sandbox.docker.driver import DockerDriver

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
