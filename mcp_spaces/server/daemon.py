"""`mcp-spaces serve`: the one long-lived process that owns a state directory.

It may be killed at any instant; what it left is reconciled when the next one starts.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import anyio

from mcp_spaces import places
from mcp_spaces.errors import SpacesError, TimedOut, WrongState
from mcp_spaces.server.daemon_log import DaemonLog
from mcp_spaces.server.descriptors import make_room
from mcp_spaces.server.endpoint import open_server
from mcp_spaces.server.own_folder import identity, until_taken_away
from mcp_spaces.server.private_process import keep_private
from mcp_spaces.server.unix import LocalSockets, make_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings

    OpenApp = Callable[[Settings], AbstractAsyncContextManager[Application]]

log = logging.getLogger(__name__)

EXIT_REFUSED = 3
"""The state directory is somebody else's, or taken by another daemon; the settings are not safe."""

STOPPING_S = 30.0
"""As long as `mcp-spaces stop` waits."""
LOOK_S = 0.05


def serve(
    settings: Settings,
    *,
    ready_fd: int | None = None,
    open_app: OpenApp | None = None,
    accept_rollback: bool = False,
) -> int:
    """Run the daemon until SIGTERM or SIGINT; the exit code.

    `ready_fd` gets one byte once everything listens. It is closed in any case, at the latest by this process's end.
    """
    os.umask(0o077)
    keep_private()
    make_room()
    logging.basicConfig(
        level=logging.INFO,
        handlers=[DaemonLog(Path(places.daemon_log(str(settings.state_dir))))],
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("mcp").setLevel(logging.WARNING)  # at INFO it writes session ids down
    try:
        make_private(settings.state_dir)
        ready = announcement(settings.state_dir, ready_fd)
        with only_daemon(settings.state_dir):
            anyio.run(run, settings, open_app or _open_app(accept_rollback=accept_rollback), ready)
    except (SpacesError, BaseExceptionGroup) as failure:
        error = _refusal(failure)
        if error is None:
            raise
        sys.stderr.write(f"mcp-spaces: {error.message} {error.hint}\n")
        return EXIT_REFUSED
    return 0


async def run(settings: Settings, open_app: OpenApp, ready: Callable[[], None]) -> None:
    """Open everything, say so by `ready`, and wait for a signal, or for the end of the state directory."""
    stop = anyio.Event()
    lock = Path(places.daemon_lock(str(settings.state_dir)))
    held = identity(lock)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # The scope stays around everything that is opened in it: what the app runs in the background lives as long.
    with anyio.move_on_after(settings.start_s) as starting:
        async with AsyncExitStack() as stack:
            app = await stack.enter_async_context(open_app(settings))
            endpoints = await stack.enter_async_context(listening(app, settings))
            starting.deadline = float("inf")
            for endpoint in endpoints:
                log.info("listening on %s", endpoint)
            ready()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_stop_without_folder, lock, held, stop)
                await stop.wait()
                tasks.cancel_scope.cancel()
            log.info("stopping")
    if starting.cancelled_caught:
        raise TimedOut(
            f"Nothing was ready within {settings.start_s:g} s.", hint="Run: mcp-spaces doctor. It says what hangs."
        )


async def _stop_without_folder(lock: Path, held: tuple[int, int] | None, stop: anyio.Event) -> None:
    await until_taken_away(lock, held)
    log.critical("%s is not the folder any more that this daemon serves: it was moved or deleted", lock.parent)
    stop.set()


@asynccontextmanager
async def listening(app: Application, settings: Settings) -> AsyncIterator[list[str]]:
    """Each way in to the app, open; what they are."""
    async with open_server(app, settings) as server, LocalSockets(app, server).listening():
        state = str(settings.state_dir)
        endpoints = [places.agent_socket(state), places.operator_socket(state)]
        if settings.http_port is None:
            async with entry_door(app, settings):
                yield endpoints
            return
        from mcp_spaces.server.http import listening as listening_on_http

        async with listening_on_http(app, server) as url:
            yield [*endpoints, url]


@asynccontextmanager
async def entry_door(app: Application, settings: Settings) -> AsyncIterator[None]:
    """Pages for secrets where HTTP is off. What serves them is loaded when the first one is asked for."""
    async with anyio.create_task_group() as tasks:

        async def first_address() -> str:
            from mcp_spaces.server.entry_door import EntryDoor

            door = EntryDoor(app.entries, settings)
            app.entries.address = door.address
            tasks.start_soon(door.run)
            return await door.address()

        app.entries.address = first_address
        try:
            yield
        finally:
            app.entries.address = None
            tasks.cancel_scope.cancel()


def announcement(state: Path, ready_fd: int | None) -> Callable[[], None]:
    """What tells waiting clients that everything listens.

    A client that started this daemon waits for a byte, and holds the start lock, for which other clients wait. Without
    such a client the lock is held here: who finds nobody listening meanwhile waits, too, and starts no second daemon.

    Raises WrongState: the state directory cannot be written.
    """
    if ready_fd is not None:
        return partial(_tell, ready_fd)
    try:
        lock = os.open(places.start_lock(str(state)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(state, error) from None
    fcntl.flock(lock, fcntl.LOCK_EX)
    return partial(os.close, lock)


def _tell(ready_fd: int) -> None:
    # Whoever waited may be gone; others come.
    with suppress(BrokenPipeError):
        os.write(ready_fd, b"1")
    os.close(ready_fd)


@contextmanager
def only_daemon(state: Path, *, stopping_s: float = STOPPING_S) -> Iterator[None]:
    """Hold the state directory (threat K18). The kernel lets go of it however this process ends.

    A daemon that holds it without listening is waited for, `stopping_s` at most: clients come back while it still frees
    what it has.

    Raises:
        WrongState: another daemon holds it, or it cannot be written.
    """
    try:
        lock = Path(places.daemon_lock(str(state))).open("a+")  # noqa: SIM115 - closed by the next line
    except OSError as error:
        raise _unwritable(state, error) from None
    with lock:
        given_up_at = time.monotonic() + stopping_s
        while not _taken(lock):
            if _listens(state) or time.monotonic() >= given_up_at:
                raise WrongState(
                    f"Another daemon (process {_holder(lock)}) serves {state}.",
                    hint=f"Use that one, or set {places.STATE_DIRECTORY_VARIABLE} to another directory.",
                )
            time.sleep(LOOK_S)
        try:
            _sign(lock)
        except OSError as error:
            raise _unwritable(state, error) from None
        yield


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listens(state: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(places.agent_socket(str(state)))
        except OSError:
            return False
    return True


def _unwritable(state: Path, error: OSError) -> WrongState:
    return WrongState(
        f"{error.filename or state} cannot be written: {error.strerror or error}.",
        hint=f"Mend the disk, or set {places.STATE_DIRECTORY_VARIABLE} to another directory.",
    )


def _sign(lock: TextIO) -> None:
    """Raises OSError."""
    process = str(os.getpid()).encode()
    lock.truncate(0)
    # Not through its buffer, which a full disk would refuse once more when the file is closed.
    if os.write(lock.fileno(), process) < len(process):
        # Part of it names another process, which `mcp-spaces stop` would end.
        lock.truncate(0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read(20).strip() or "unknown"


def _refusal(failure: BaseException) -> SpacesError | None:
    """The error that was meant for the operator, also where task groups wrapped it."""
    if isinstance(failure, BaseExceptionGroup):
        found = [_refusal(inner) for inner in failure.exceptions]
        return found[0] if len(found) == 1 else None
    return failure if isinstance(failure, SpacesError) else None


def _open_app(*, accept_rollback: bool) -> OpenApp:
    from mcp_spaces.app import open_app

    return partial(open_app, accept_rollback=accept_rollback)
