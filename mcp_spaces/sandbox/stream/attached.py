"""The port's Sandbox over an agent's stream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from mcp_spaces.core.tasks import heard
from mcp_spaces.errors import InvalidInput, TimedOut
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.path_order import Order, by_name, own_work_first
from mcp_spaces.sandbox.paths import MAX_PATTERN_BYTES, encoded_text, workspace_path
from mcp_spaces.sandbox.port import (
    Command,
    Connection,
    FileContent,
    FileStat,
    Listing,
    OutputSink,
    SandboxUsage,
    SearchMatch,
    SearchResult,
)
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.channel import CallChannel, gone
from mcp_spaces.sandbox.stream.connections import RelayChannel
from mcp_spaces.sandbox.stream.fields import match_of, run_fields, stat_of
from mcp_spaces.sandbox.stream.protocol import Violation, fields_in, text, whole
from mcp_spaces.sandbox.stream.proxy_ports import ProxyPorts
from mcp_spaces.sandbox.stream.running_command import RunningCommand

MAX_ENTRY_BYTES = 8 * 1024
SLACK_BYTES = 64 * 1024


class AttachedSandbox:
    """A live container with its stream. `free` removes what the driver set up around it; it is called once."""

    def __init__(
        self, *, container_id: str, image_id: str, stream: AgentStream, free: Callable[[], Awaitable[None]]
    ) -> None:
        self.new_workspace = False
        self._container_id = container_id
        self._image_id = image_id
        self._stream = stream
        self._ports = ProxyPorts(stream)
        self._free = free
        self._stopping: asyncio.Task[None] | None = None
        self._environment: Callable[[], Mapping[str, str]] | None = None

    @property
    def container_id(self) -> str:
        return self._container_id

    @property
    def image_id(self) -> str:
        return self._image_id

    @property
    def private_environment(self) -> bool:
        return True

    @property
    def alive(self) -> bool:
        return not self._stream.closed.done()

    def adopt(self, free: Callable[[], Awaitable[None]]) -> None:
        """It belongs to another runtime now, and is freed as such."""
        self._free = free

    async def start(self, command: Command, *, output: OutputSink) -> RunningCommand:
        if self._environment is not None:
            command = replace(command, env={**self._environment(), **command.env})
        running = RunningCommand(self._stream, output, folder=command.cwd, is_fed=command.is_fed)
        running.number = self._stream.open(running, run_fields(command))
        try:
            await asyncio.shield(running.started)
        except asyncio.CancelledError:
            self._stream.send(wire.KILL, running.number)
            raise
        return running

    async def read_file(self, path: str, *, offset: int = 0, limit: int) -> FileContent:
        if offset < 0 or limit < 0:
            raise InvalidInput("offset and limit are counts of bytes.", hint="Pass 0 or more.")
        channel = CallChannel(path=path, most_bytes=limit)
        fields = [b"read", workspace_path(path), wire.whole(offset), wire.whole(limit)]
        size, resolved, version = await self._call(channel, fields, count=3)
        return FileContent(
            content=bytes(channel.content),
            offset=offset,
            size_bytes=self._whole(size),
            resolved_path=self._text(resolved),
            version=self._text(version),
        )

    async def write_file(
        self, path: str, content: bytes, *, overwrite: bool, base_sha256: str | None = None
    ) -> FileStat:
        base = b"" if base_sha256 is None else base_sha256.lower().encode("ascii", "replace")
        if base_sha256 is not None and len(base) != 64:
            raise InvalidInput("base_sha256 is 64 hexadecimal digits.", hint="Pass the hash that reading returned.")
        fields = [b"write", workspace_path(path), wire.whole(int(overwrite)), base]
        channel = CallChannel(path=path, most_bytes=0)
        if len(content) <= wire.CHUNK:
            channel.window.charge(len(content))
            return self._stat(await self._call(channel, fields, count=5, content=content))
        number = self._stream.open(channel, fields)
        try:
            rest = memoryview(content)
            while rest:
                room = await channel.window.take(min(len(rest), wire.CHUNK))
                if not room:
                    break
                self._stream.send(wire.CONTENT, number, bytes(rest[:room]))
                rest = rest[room:]
            self._stream.send(wire.END, number)
        except asyncio.CancelledError:
            self._take_back(channel, number)
            raise
        return self._stat(await self._answer(channel, number, count=5))

    async def delete_file(self, path: str, *, recursive: bool = False) -> int:
        channel = CallChannel(path=path, most_bytes=0)
        (removed,) = await self._call(channel, [b"remove" if recursive else b"delete", workspace_path(path)], count=1)
        return self._whole(removed)

    async def stat(self, path: str) -> FileStat:
        channel = CallChannel(path=path, most_bytes=0)
        return self._stat(await self._call(channel, [b"stat", workspace_path(path)], count=5))

    async def list_files(self, path: str, *, depth: int = 1, limit: int = 1000) -> Listing:
        fields = [b"list", workspace_path(path), wire.whole(depth), wire.whole(limit)]
        return await self._listing(path, fields, limit, order=by_name)

    async def glob(self, pattern: str, *, limit: int = 1000) -> Listing:
        encoded = encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        return await self._listing(pattern, [b"glob", encoded, wire.whole(limit)], limit, order=own_work_first)

    async def _listing(self, path: str, fields: Sequence[bytes], limit: int, *, order: Order) -> Listing:
        entries: list[FileStat] = []
        (truncated,) = await self._entries(
            path, fields, limit, each=lambda entry: entries.append(stat_of(entry)), count=1
        )
        return Listing(entries=tuple(sorted(entries, key=lambda entry: order(entry.path))), truncated=bool(truncated))

    async def search(
        self, pattern: str, *, path: str = ".", glob: str | None = None, limit: int = 200, timeout_s: float = 10.0
    ) -> SearchResult:
        expression = encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        only = b"" if glob is None else encoded_text(glob, what="glob", longest=MAX_PATTERN_BYTES)
        matches: list[SearchMatch] = []
        fields = [b"search", expression, workspace_path(path), only, wire.whole(limit)]
        try:
            async with asyncio.timeout(timeout_s):
                truncated, too_large = await self._entries(
                    path, fields, limit, each=lambda entry: matches.append(match_of(entry)), count=2
                )
        except TimeoutError:
            raise TimedOut(
                f"The search took longer than {timeout_s:g} s.",
                hint="Name a folder or a glob, or simplify the pattern.",
            ) from None
        return SearchResult(matches=tuple(matches), truncated=bool(truncated), too_large=too_large)

    async def _entries(
        self, path: str, fields: Sequence[bytes], limit: int, *, each: Callable[[list[bytes]], None], count: int
    ) -> list[int]:
        if not 1 <= limit <= 100_000:
            raise InvalidInput("limit is 1 to 100,000.", hint="Ask for less, or for several parts.")
        left = limit

        def take(content: bytes) -> None:
            nonlocal left
            for entry in fields_in(content):
                left -= 1
                if left < 0:
                    raise Violation("more entries than asked for")
                each(fields_in(entry))

        channel = CallChannel(path=path, most_bytes=limit * MAX_ENTRY_BYTES + SLACK_BYTES, each=take)
        return [self._whole(one) for one in await self._call(channel, fields, count=count)]

    async def usage(self) -> SandboxUsage:
        memory, disk, pids = await self._call(CallChannel(path=".", most_bytes=0), [b"usage"], count=3)
        return SandboxUsage(memory_bytes=self._whole(memory), disk_bytes=self._whole(disk), pids=self._whole(pids))

    async def offer_proxy(
        self,
        accept: Callable[[Connection], None],
        *,
        environment: Callable[[], Mapping[str, str]] | None = None,
        port: int,
    ) -> int:
        listening = await self._ports.offer(accept, port=port)
        if environment is not None:
            self._environment = environment
        return listening

    async def withdraw_proxy(self, port: int) -> None:
        await self._ports.withdraw(port)

    async def dial(self, port: int) -> Connection:
        channel = RelayChannel(self._stream)
        channel.number = self._stream.open(channel, [b"dial", wire.whole(port)])
        try:
            await asyncio.shield(channel.started)
        except asyncio.CancelledError:
            channel.close()
            raise
        return channel

    async def ping(self) -> None:
        """One round trip. Raises RuntimeUnavailable."""
        await self._call(CallChannel(path=".", most_bytes=0), [b"ping"], count=0)

    async def open_door(self, path: str) -> None:
        """Have the agent listen there for one visitor. Before the first command: see `shortcut.py`."""
        await self._call(CallChannel(path=".", most_bytes=0), [b"open door", path.encode()], count=0)

    async def shut_door(self) -> None:
        """Nobody came. Idempotent."""
        await self._call(CallChannel(path=".", most_bytes=0), [b"shut door"], count=0)

    async def continue_over(self, connection: socket.socket) -> None:
        """The visitor's connection carries the frames from now on."""
        await self._stream.continue_over(connection)
        await self.ping()

    async def facts(self, addresses: Sequence[str]) -> dict[str, str]:
        """What the agent sees of its walls: for `walls.py` to judge."""
        fields = [b"probe", *(address.encode() for address in addresses)]
        answer = await self._call(CallChannel(path=".", most_bytes=0), fields, count=None)
        pairs = [self._text(field).partition("=") for field in answer]
        return {name: value for name, _, value in pairs}

    async def closed(self) -> str:
        return await asyncio.shield(self._stream.closed)

    async def stop(self) -> None:
        self._stream.close("it was stopped")
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._free())
        await asyncio.shield(self._stopping)

    # Calls

    async def _call(
        self, channel: CallChannel, fields: Sequence[bytes], *, count: int | None, content: bytes | None = None
    ) -> list[bytes]:
        return await self._answer(channel, self._stream.open(channel, fields, content=content), count=count)

    async def _answer(self, channel: CallChannel, number: int, *, count: int | None) -> list[bytes]:
        try:
            fields = await asyncio.shield(channel.answer)
        except asyncio.CancelledError:
            self._take_back(channel, number)
            raise
        if count is not None and len(fields) != count:
            self._broken(Violation("a wrong number of fields"))
        return fields

    def _take_back(self, channel: CallChannel, number: int) -> None:
        self._stream.send(wire.KILL, number)
        # The answer still comes, and nobody looks at it.
        channel.answer.add_done_callback(heard)

    def _broken(self, violation: Violation) -> NoReturn:
        """What its agent never says ends the sandbox. Raises RuntimeUnavailable."""
        reason = f"its agent broke the protocol: {violation}"
        self._stream.close(reason)
        raise gone(reason)

    def _whole(self, field: bytes) -> int:
        try:
            return whole(field)
        except Violation as violation:
            self._broken(violation)

    def _text(self, field: bytes) -> str:
        try:
            return text(field)
        except Violation as violation:
            self._broken(violation)

    def _stat(self, fields: list[bytes]) -> FileStat:
        try:
            return stat_of(fields)
        except Violation as violation:
            self._broken(violation)
