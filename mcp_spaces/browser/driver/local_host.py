"""One Chromium on this machine, inside of the process that `jail` is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anyio.to_thread import run_sync

from mcp_spaces.browser.driver import jail, local_files
from mcp_spaces.browser.driver.doors import Connect, Door
from mcp_spaces.browser.driver.host import Host, WayOut
from mcp_spaces.browser.port import Accept
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import SandboxLimits

log = logging.getLogger(__name__)

PIECE_BYTES = 64 << 10
LISTEN_S = 5.0
END_S = 5.0
CODE_S = 1.0
EXIT_S = 1.0
"""How long a browser that has closed its pipe may take to exit."""
LOOK_S = 1.0
"""How often the memory of a browser is looked at. Between two looks it may go over its limit."""
OURS = re.compile(rb"(?m)^mcp-spaces: ([ -~]{1,300})$")
KEPT_VARIABLES = ("LANG", "LC_ALL", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class Walls:
    """`uid`: whom Chromium runs as; None: as the daemon itself. `jailed`: in namespaces of its own."""

    jailed: bool
    uid: int | None


class LocalHost(Host):
    def __init__(
        self,
        folder: Path,
        *,
        program: Path,
        arguments: Sequence[str],
        walls: Walls,
        limits: SandboxLimits,
        connect: Connect,
    ) -> None:
        """`folder` is this browser's alone, and goes with it; `arguments` may name it as `{folder}`."""
        super().__init__(limits)
        self.folder = folder
        self._inside = jail.INSIDE if walls.jailed else str(folder)
        self._program = program
        self._arguments = [one.replace("{folder}", self._inside) for one in arguments]
        self._walls = walls
        self._connect = connect
        self._doors: dict[int, Door] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outputs: Sequence[asyncio.Task[None]] = ()
        self._control: socket.socket | None = None
        self._partial = b""
        self._jails_words = ""

    @property
    def program(self) -> str:
        return str(self._program)

    @property
    def downloads(self) -> str:
        return f"{self._inside}/downloads"

    # Starting

    async def _begin(self) -> None:
        """Raises OSError too."""
        await run_sync(self._make_folder)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(LISTEN_S)
        self._control = ours
        with theirs:
            wanted = jail.Wanted(
                control=theirs.fileno(),
                jailed=self._walls.jailed,
                uid=self._walls.uid,
                folder=str(self.folder),
                programs=str(self._program.parent) if self._is_hidden else "",
                argv=[self._seen_program, *self._arguments],
                environment=self._environment(os.environ),
            )
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", jail.__file__, json.dumps(wanted._asdict()),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self._process = process
        self._exited = _exit_of(process.pid)
        if process.stdout is not None and process.stderr is not None:
            self._outputs = [
                self._watch(self._watch_pipe_end(process.stdout)),
                self._watch(self._watch_output(process.stderr, self._said)),
            ]
        self._watch(self._watch_process(process))
        self._watch(self._watch_memory(process.pid))

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700)
        for name in ("profile", "downloads"):
            (self.folder / name).mkdir(mode=0o700)
        if self._walls.uid is not None:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, self._walls.uid, self._walls.uid)

    @property
    def _is_hidden(self) -> bool:
        """Whether the jail hides the folder that the program is in."""
        return self._walls.jailed and any(
            self._program.is_relative_to(hidden) for hidden in (*jail.HIDDEN, jail.INSIDE)
        )

    @property
    def _seen_program(self) -> str:
        return f"{jail.INSIDE}/programs/{self._program.name}" if self._is_hidden else str(self._program)

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        kept = {name: environment[name] for name in KEPT_VARIABLES if name in environment}
        return {"PATH": "/usr/bin:/bin", "HOME": self._inside, "TMPDIR": self._inside, **kept}

    # While it runs

    async def _write(self, content: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.")
        try:
            self._process.stdin.write(content)
            await self._process.stdin.drain()
        except OSError:
            # Whoever watches it says how it ended.
            await asyncio.wait({self.gone}, timeout=END_S)
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.") from None

    async def _watch_output(self, output: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
        while chunk := await output.read(PIECE_BYTES):
            take(chunk)

    async def _watch_pipe_end(self, output: asyncio.StreamReader) -> None:
        await self._watch_output(output, self._heard)
        # One that exits closes its pipe as well, and how it exited says more.
        await asyncio.wait({self._exited}, timeout=EXIT_S)
        if not self._exited.done():
            self.end("the browser closed its DevTools pipe")

    def _said(self, chunk: bytes) -> None:
        super()._said(chunk)
        # Later a page could print such a line.
        if not self.is_connected and (found := OURS.search(chunk)):
            self._jails_words = found[1].decode()

    async def _watch_process(self, process: asyncio.subprocess.Process) -> None:
        await asyncio.wait({self._exited})
        code = await _code_of(process)
        self.end(self._jails_words or f"the browser crashed: it exited with {code}")

    async def _watch_memory(self, pid: int) -> None:
        used = 0
        while used <= self.limits.memory_bytes:
            await asyncio.sleep(LOOK_S)
            used = await run_sync(memory_of, pid)
        self.end("the browser crashed: it ran out of memory")

    # Ways out

    async def offer(self, accept: Accept) -> WayOut:
        listener = await run_sync(self._listener)
        door = Door(accept, self._connect, locked=not self._walls.jailed)
        way = await door.open(listener)
        self._doors[way.port] = door
        return way

    def _listener(self) -> socket.socket:
        if self._control is None:
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.")
        try:
            self._control.send(b"listen")
            _, (descriptor,), _, _ = socket.recv_fds(self._control, 64, 1)
        except (OSError, ValueError):
            raise RuntimeUnavailable("The browser has no way out.", hint="Launch it again.") from None
        return socket.socket(fileno=descriptor)

    async def withdraw(self, way: WayOut) -> None:
        door = self._doors.pop(way.port, None)
        if door is not None:
            door.close()

    # Files

    def read(self, path: str) -> AsyncIterator[bytes]:
        return local_files.read(self.folder, self._outside(path))

    async def remove(self, path: str) -> None:
        await local_files.remove(self.folder, self._outside(path))

    def _outside(self, path: str) -> PurePosixPath:
        return PurePosixPath(path).relative_to(self._inside)

    # Limits: memory is all that is looked at

    def could_have(self, limits: SandboxLimits) -> bool:
        return True

    async def _resize(self, limits: SandboxLimits) -> None:
        """The next look at its memory goes by them."""

    # The end

    async def _free(self) -> None:
        for door in self._doors.values():
            door.close()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            await self._end_process(self._process)
        await run_sync(remove_folder, self.folder)

    async def _end_process(self, process: asyncio.subprocess.Process) -> None:
        """The jail ends Chromium once its control socket is closed, and then itself."""
        await asyncio.wait({self._exited}, timeout=END_S)
        if not self._exited.done():
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait({self._exited})
        if not self._walls.jailed:
            # A jail that was killed has ended nobody.
            await run_sync(end_processes, [str(self.folder)])
        if self._outputs:
            # Whoever of Chromium is left holds them, and a pipe that is not read to its end stays open.
            await asyncio.wait(self._outputs, timeout=END_S)
        await _code_of(process)
        if process.stdin is not None:
            process.stdin.close()


def _exit_of(pid: int) -> asyncio.Future[None]:
    """Ends when the process does: `Process.wait` also waits for whoever holds its pipes."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    exited: asyncio.Future[None] = loop.create_future()

    def on_exit() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        exited.set_result(None)

    loop.add_reader(descriptor, on_exit)
    return exited


async def _code_of(process: asyncio.subprocess.Process) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(CODE_S):
            return str(await process.wait())
    return "a signal"


def fresh_folder(parent: Path) -> Path:
    return parent / secrets.token_hex(8)


def remove_folder(folder: Path) -> None:
    """What a dying process still puts there goes as well."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    log.warning("the folder %s could not be removed", folder)


def memory_of(pid: int, *, processes: Path = Path("/proc")) -> int:
    """Bytes that a process and all below it have for themselves, also where they were swapped out. A process that ends
    meanwhile has none."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        with suppress(OSError):
            # A process gives itself its name, which may be no text and hold a carriage return.
            for line in (processes / f"{one}/status").read_bytes().split(b"\n"):
                if line.startswith((b"RssAnon:", b"RssShmem:", b"VmSwap:")):
                    total += int(line.split()[1]) << 10
            for task in (processes / f"{one}/task").iterdir():
                # Threads come and go.
                with suppress(OSError):
                    waiting += map(int, (task / "children").read_bytes().split())
    return total


def end_processes(words: Sequence[str]) -> None:
    """Kill those that have one of these among their arguments, but for this one. They are gone when this returns, or
    take longer than END_S to go: what they had open cannot be removed before. Blocks."""
    wanted = [os.fsencode(word) for word in words]
    with ExitStack() as held:
        ended = select.poll()
        dying = 0
        for process in _killed(wanted):
            held.callback(os.close, process)
            ended.register(process, select.POLLIN)
            dying += 1
        until = time.monotonic() + END_S
        while dying and (left_s := until - time.monotonic()) > 0:
            for process, _ in ended.poll(left_s * 1000):
                ended.unregister(process)
                dying -= 1


def _killed(wanted: Sequence[bytes]) -> Iterator[int]:
    """A descriptor of each, which is readable once the process is gone."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if any(word in line for word in wanted):
                log.info("a browser that nobody drives any more is ended: process %s", entry.name)
                # First of all: where no descriptor is left, nobody waits for its end.
                os.kill(int(entry.name), signal.SIGKILL)
                yield os.pidfd_open(int(entry.name))
