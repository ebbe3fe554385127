"""`mcp-spaces serve`: the one long-lived process that owns a state directory.

It may be killed at any instant; what it left is reconciled when the next one starts.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import anyio

from mcp_spaces import places
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.server.endpoint import open_server
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


def serve(settings: Settings, *, ready_fd: int | None = None, open_app: OpenApp | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT; the exit code.

    `ready_fd` gets one byte once everything listens, and is closed in any case.
    """
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        make_private(settings.state_dir)
        with only_daemon(settings.state_dir):
            anyio.run(run, settings, open_app or _open_app(), ready_fd)
    except SpacesError as error:
        _say(f"mcp-spaces: {error.message} {error.hint}")
        return EXIT_REFUSED
    return 0


async def run(settings: Settings, open_app: OpenApp, ready_fd: int | None = None) -> None:
    """Open everything, say so, and wait for a signal."""
    async with stopped_by_signals() as stop:
        with anyio.fail_after(settings.start_s) as starting:
            async with AsyncExitStack() as open_things:
                # Opening is bounded, living is not.
                endpoints = await open_things.enter_async_context(opened(settings, open_app))
                starting.deadline = float("inf")
                for endpoint in endpoints:
                    log.info("listening on %s", endpoint)
                if ready_fd is not None:
                    os.write(ready_fd, b"1")
                    os.close(ready_fd)
                await stop.wait()
                log.info("stopping")


@asynccontextmanager
async def opened(settings: Settings, open_app: OpenApp) -> AsyncIterator[list[str]]:
    """The app and each way in to it; what they listen on."""
    async with open_app(settings) as app, open_server(app, settings) as server, LocalSockets(app, server).listening():
        state = str(settings.state_dir)
        endpoints = [places.agent_socket(state), places.operator_socket(state)]
        if settings.http_port is None:
            yield endpoints
            return
        from mcp_spaces.server.http import listening

        async with listening(app, server) as url:
            yield [*endpoints, url]


@contextmanager
def only_daemon(state: Path) -> Iterator[None]:
    """Hold the state directory (threat K18). The kernel lets go of it however this process ends.

    Raises:
        WrongState: another daemon holds it.
    """
    with Path(places.daemon_lock(str(state))).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongState(
                f"Another daemon (process {_holder(lock)}) serves {state}.",
                hint=f"Use that one, or set {places.STATE_DIRECTORY_VARIABLE} to another directory.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read(20).strip() or "unknown"


@asynccontextmanager
async def stopped_by_signals() -> AsyncIterator[anyio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = anyio.Event()

    async def wait() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        yield stop
        tasks.cancel_scope.cancel()


def _open_app() -> OpenApp:
    from mcp_spaces.app import open_app

    opening: OpenApp = open_app
    return opening


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
