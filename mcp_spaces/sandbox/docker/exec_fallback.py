"""The port's Sandbox for images without Python: every call is a `docker exec` of a shell. Slow, and the same contract.

What the shell cannot do: a path may change between the look at it and its use (the container is the wall then, as the
walk happens inside), a process that cleared its environment and lost its parent is not found by `kill`, and search
uses grep's Perl expressions.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import InvalidInput, QuotaExceeded, RuntimeUnavailable, SpacesError, TimedOut, WrongState
from mcp_spaces.sandbox.agent.wire import MAX_PAYLOAD
from mcp_spaces.sandbox.docker import exec_scripts as scripts
from mcp_spaces.sandbox.docker.engine import Engine, Threads
from mcp_spaces.sandbox.docker.exec_answers import (
    content_of,
    described,
    entries,
    kills_of,
    listing,
    matches_of,
    number,
    usage_of,
)
from mcp_spaces.sandbox.docker.exec_process import ExecProcess, ExecStreams, connected
from mcp_spaces.sandbox.docker.walls import METADATA, RESOLVER
from mcp_spaces.sandbox.globs import matches
from mcp_spaces.sandbox.path_order import own_work_first
from mcp_spaces.sandbox.paths import MAX_PATTERN_BYTES, encoded_text, workspace_path
from mcp_spaces.sandbox.port import (
    WORKSPACE,
    Command,
    Connection,
    FileContent,
    FileStat,
    Listing,
    OutputSink,
    SandboxUsage,
    SearchResult,
    Stream,
    TerminalSize,
)
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.channel import gone
from mcp_spaces.sandbox.stream.fields import run_fields
from mcp_spaces.sandbox.stream.protocol import Violation

MAX_ANSWER_BYTES = 32 << 20
MAX_WORDS_BYTES = 16 * 1024
CALL_TIMEOUT_S = 120.0
NO_PROCESS = (2, 126, 254)
"""How a script of ours ends that found no process for a program: in dash, in the engine, in bash."""


class ExecSandbox:
    """`life` is the attach stream of the container's first process: when it ends, the container did."""

    def __init__(
        self,
        *,
        container_id: str,
        image_id: str,
        engine: Engine,
        life: ExecStreams,
        thread: Threads,
        free: Callable[[], Awaitable[None]],
        log: logging.Logger,
    ) -> None:
        self.new_workspace = False
        self._container_id = container_id
        self._image_id = image_id
        self._engine = engine
        self._life = life
        self._thread = thread
        self._free = free
        self._log = log
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._running: set[ExecProcess] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._taking_back: set[asyncio.Task[None]] = set()
        life.over.add_done_callback(lambda _: self._close("its container ended"))

    @property
    def container_id(self) -> str:
        return self._container_id

    @property
    def image_id(self) -> str:
        return self._image_id

    @property
    def private_environment(self) -> bool:
        return False

    @property
    def alive(self) -> bool:
        return not self._closed.done()

    def _close(self, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result(reason)
        self._life.close()
        for process in list(self._running):
            process.close()
        self._running.clear()

    async def closed(self) -> str:
        return await asyncio.shield(self._closed)

    async def stop(self) -> None:
        self._close("it was stopped")
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._free())
        await asyncio.shield(self._stopping)

    # Commands

    async def start(self, command: Command, *, output: OutputSink) -> ExecProcess:
        run_fields(command)
        cwd = workspace_path(command.cwd).decode()
        if cwd != ".":
            await self._call(scripts.FOLDER, cwd, path=command.cwd)
        script, arguments = scripts.COMMAND, [cwd, *command.argv]
        if (size := command.terminal) is not None:
            # The engine sets a size only afterwards, when the program may have looked already.
            script, arguments = scripts.TERMINAL + script, [str(size.rows), str(size.columns), *arguments]
        return await self._start(
            ["/bin/sh", "-c", script, "sh", *arguments],
            output=output,
            env=dict(command.env),
            terminal=command.terminal,
            is_fed=command.is_fed,
        )

    async def _start(
        self,
        argv: Sequence[str],
        *,
        output: OutputSink,
        env: dict[str, str] | None = None,
        terminal: TerminalSize | None = None,
        is_fed: bool = True,
    ) -> ExecProcess:
        if self._closed.done():
            raise gone(self._closed.result())
        marker = secrets.token_hex(12)
        # The marker last: what it finds is what a kill reaches.
        environment = {**({"TERM": "xterm-256color"} if terminal else {}), **(env or {}), "MCP_SPACES_COMMAND": marker}
        killed_before = await self._out_of_memory_kills() if env is not None else 0
        exec_id = await self._thread(
            lambda: self._engine.create_exec(
                self._container_id,
                argv,
                stdin=is_fed,
                stdout=True,
                stderr=True,
                tty=terminal is not None,
                environment=environment,
                workdir=WORKSPACE,
            ),
        )

        async def begin() -> ExecStreams:
            connection = await self._thread(lambda: self._engine.start_exec(exec_id, tty=terminal is not None))
            return await connected(connection, output=output, terminal=terminal is not None)

        # A caller who goes away meanwhile leaves a command that can be killed, and no half of one.
        streams = await shielded(begin())

        async def inspect() -> dict[str, Any]:
            try:
                return await self._thread(lambda: self._engine.inspect_exec(exec_id))
            except SpacesError:
                # The container went, and its execs with it.
                if self._closed.done():
                    raise gone(self._closed.result()) from None
                raise

        async def kill_all() -> None:
            try:
                await self._call(scripts.KILL, marker)
            except QuotaExceeded:
                await self._call(scripts.KILL_ALONE, marker)

        async def resize(size: TerminalSize) -> None:
            await self._thread(lambda: self._engine.resize_exec(exec_id, rows=size.rows, columns=size.columns))

        async def out_of_memory(code: int) -> bool:
            try:
                return code != 0 and env is not None and await self._out_of_memory_kills() > killed_before
            except SpacesError:
                # How it ended is known all the same.
                return False

        process = ExecProcess(
            streams,
            is_fed=is_fed,
            terminal=terminal is not None,
            inspect=inspect,
            kill_all=kill_all,
            resize=resize,
            out_of_memory=out_of_memory,
            gone=self._closed,
            log=self._log,
        )
        self._running.add(process)
        process.on_ended(lambda: self._running.discard(process))
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await shielded(process.kill())
            raise
        return process

    async def _out_of_memory_kills(self) -> int:
        return kills_of(await self._call(scripts.OUT_OF_MEMORY))

    # Calls

    async def _call(
        self, script: str, *arguments: str, content: bytes | None = None, path: str = "", undo: Sequence[str] = ()
    ) -> bytes:
        """Run a script of ours and return its stdout. `undo` is another one, with its arguments, for what is left of
        this one where it is killed. Raises what the script refuses, RuntimeUnavailable, TimedOut."""
        words, answer, flooded = bytearray(), bytearray(), asyncio.Event()

        def take(stream: Stream, piece: bytes) -> None:
            kept, most = (answer, MAX_ANSWER_BYTES) if stream is Stream.STDOUT else (words, MAX_WORDS_BYTES)
            if len(kept) + len(piece) <= most:
                kept += piece
            elif stream is Stream.STDOUT:
                flooded.set()

        process: ExecProcess | None = None
        try:
            process = await self._start(["/bin/sh", "-c", script, "sh", *arguments], output=take)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if content is not None:
                    await process.write(content)
                await process.close_stdin()
                ended = await process.wait()
        except TimeoutError:
            await self._take_back(process, undo)
            raise TimedOut("The file operation took too long.", hint="Try a smaller part.") from None
        except asyncio.CancelledError:
            taking_back = asyncio.ensure_future(self._take_back(process, undo))
            self._taking_back.add(taking_back)
            taking_back.add_done_callback(self._taking_back.discard)
            taking_back.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        refusal = bytes(words).strip().rpartition(b"refused:")
        if ended.exit_code and refusal[1]:
            if refusal[2] == b"limit":
                raise TimedOut("The expression takes too many steps.", hint="Simplify the pattern.")
            try:
                raise error_of(refusal[2], path=path)
            except Violation:
                raise RuntimeUnavailable("The sandbox answered nonsense.", hint="Start it again.") from None
        if ended.exit_code in NO_PROCESS:
            raise error_of(b"no_process", path=path)
        if ended.exit_code or flooded.is_set():
            self._log.info("a script in a sandbox failed (%d): %r", ended.exit_code, bytes(words[:500]))
            raise RuntimeUnavailable("The sandbox's shell could not do it.", hint="Use an image with python3.")
        return bytes(answer)

    async def _take_back(self, process: ExecProcess | None, undo: Sequence[str]) -> None:
        """None: it was killed before anybody had it."""
        if process is not None:
            await process.kill()
        if undo:
            await self._call(*undo)

    # Files

    async def read_file(self, path: str, *, offset: int = 0, limit: int) -> FileContent:
        if offset < 0 or limit < 0:
            raise InvalidInput("offset and limit are counts of bytes.", hint="Pass 0 or more.")
        if limit > MAX_ANSWER_BYTES - MAX_PAYLOAD:
            raise InvalidInput("limit is too large for this image.", hint="Read it in parts.")
        answer = await self._call(scripts.READ, _relative(path), str(offset), str(limit), path=path)
        return content_of(answer, offset=offset, limit=limit)

    async def write_file(
        self, path: str, content: bytes, *, overwrite: bool, base_sha256: str | None = None
    ) -> FileStat:
        if base_sha256 is not None and len(base_sha256) != 64:
            raise InvalidInput("base_sha256 is 64 hexadecimal digits.", hint="Pass the hash that reading returned.")
        name, nonce = _relative(path), secrets.token_hex(4)
        arguments = [name, str(int(overwrite)), (base_sha256 or "").lower(), nonce, str(len(content))]
        undo = (scripts.UNDO_WRITE, name, nonce)
        return described(await self._call(scripts.WRITE, *arguments, content=content, path=path, undo=undo))

    async def delete_file(self, path: str, *, recursive: bool = False) -> int:
        return number(await self._call(scripts.DELETE, _relative(path), str(int(recursive)), path=path))

    async def stat(self, path: str) -> FileStat:
        return described(await self._call(scripts.STAT, _relative(path), path=path))

    async def list_files(self, path: str, *, depth: int = 1, limit: int = 1000) -> Listing:
        return listing(entries(await self._call(scripts.LIST, _relative(path), str(depth), path=path)), limit)

    async def glob(self, pattern: str, *, limit: int = 1000) -> Listing:
        encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        found = entries(await self._call(scripts.FILES))
        return listing([one for one in found if matches(pattern, one.path)], limit, order=own_work_first)

    async def search(
        self, pattern: str, *, path: str = ".", glob: str | None = None, limit: int = 200, timeout_s: float = 10.0
    ) -> SearchResult:
        encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        try:
            # Not asyncio's, before which nothing is shielded: what is being started then would run on, and nobody know of it.
            with anyio.fail_after(timeout_s):
                answer = await self._call(scripts.SEARCH, pattern, _relative(path), path=path)
        except TimeoutError:
            raise TimedOut(
                f"The search took longer than {timeout_s:g} s.",
                hint="Name a folder or a glob, or simplify the pattern.",
            ) from None
        found = [match for match in matches_of(answer) if glob is None or matches(glob, match.path)]
        return SearchResult(matches=tuple(found[:limit]), truncated=len(found) > limit)

    async def usage(self) -> SandboxUsage:
        return usage_of(await self._call(scripts.USAGE))

    async def offer_proxy(
        self,
        accept: Callable[[Connection], None],
        *,
        environment: Callable[[], Mapping[str, str]] | None = None,
        port: int,
    ) -> int:
        raise _no_agent()

    async def withdraw_proxy(self, port: int) -> None:
        raise _no_agent()

    async def dial(self, port: int) -> Connection:
        raise _no_agent()

    async def facts(self) -> dict[str, str]:
        """What a shell sees of its walls. It makes no sockets: that there is no route says that nothing is reachable."""
        said = (await self._call(scripts.FACTS)).decode("utf-8", "replace")
        pairs = [line.partition("=") for line in said.splitlines()]
        facts = {name: value.strip(",") for name, _, value in pairs}
        if facts.pop("routes", "") == "0":
            facts |= {f"connect {address}": "unreachable" for address in (METADATA, RESOLVER)}
        return facts


def _no_agent() -> WrongState:
    return WrongState("A sandbox without Python has no network.", hint="Use an image with python3.")


def _relative(path: str) -> str:
    return workspace_path(path).decode()
