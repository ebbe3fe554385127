"""The port's Sandbox for images without Python: every call is a `docker exec` of a shell. Slow, and the same contract.

What the shell cannot do: a path may change between the look at it and its use (the container is the wall then, as the
walk happens inside), a process that cleared its environment and lost its parent is not found by `kill`, and search
uses grep's Perl expressions.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping

import anyio

from mcp_spaces.errors import InvalidInput, TimedOut, WrongState
from mcp_spaces.sandbox.agent.wire import MAX_PAYLOAD
from mcp_spaces.sandbox.docker import exec_scripts as scripts
from mcp_spaces.sandbox.docker.exec_answers import (
    content_of,
    described,
    entries,
    listing,
    number,
    searched_of,
    usage_of,
)
from mcp_spaces.sandbox.docker.exec_process import ExecProcess
from mcp_spaces.sandbox.docker.exec_shell import MAX_ANSWER_BYTES, ExecShell
from mcp_spaces.sandbox.docker.walls import METADATA, RESOLVER
from mcp_spaces.sandbox.globs import matches
from mcp_spaces.sandbox.path_order import own_work_first
from mcp_spaces.sandbox.paths import MAX_PATTERN_BYTES, encoded_text, workspace_path
from mcp_spaces.sandbox.port import (
    Command,
    Connection,
    FileContent,
    FileStat,
    Listing,
    OutputSink,
    SandboxUsage,
    SearchResult,
)
from mcp_spaces.sandbox.stream.fields import run_fields


class ExecSandbox:
    """A live container with its shell. `free` removes what the driver set up around it; it is called once."""

    def __init__(
        self, *, container_id: str, image_id: str, shell: ExecShell, free: Callable[[], Awaitable[None]]
    ) -> None:
        self.new_workspace = False
        self._container_id = container_id
        self._image_id = image_id
        self._shell = shell
        self._free = free
        self._stopping: asyncio.Task[None] | None = None

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
        return not self._shell.closed.done()

    async def closed(self) -> str:
        return await asyncio.shield(self._shell.closed)

    async def stop(self) -> None:
        self._shell.close("it was stopped")
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._free())
        await asyncio.shield(self._stopping)

    async def start(self, command: Command, *, output: OutputSink) -> ExecProcess:
        # For what it refuses: no driver starts what another would not.
        run_fields(command)
        cwd = workspace_path(command.cwd).decode()
        if cwd != ".":
            await self._shell.call(scripts.FOLDER, cwd, path=command.cwd)
        script, arguments = scripts.COMMAND, [cwd, *command.argv]
        if (size := command.terminal) is not None:
            # The engine sets a size only afterwards, when the program may have looked already.
            script, arguments = scripts.TERMINAL + script, [str(size.rows), str(size.columns), *arguments]
        return await self._shell.start(
            ["/bin/sh", "-c", script, "sh", *arguments],
            output=output,
            env=command.env,
            terminal=command.terminal,
            is_fed=command.is_fed,
        )

    async def read_file(self, path: str, *, offset: int = 0, limit: int) -> FileContent:
        if offset < 0 or limit < 0:
            raise InvalidInput("offset and limit are counts of bytes.", hint="Pass 0 or more.")
        if limit > MAX_ANSWER_BYTES - MAX_PAYLOAD:
            raise InvalidInput("limit is too large for this image.", hint="Read it in parts.")
        answer = await self._shell.call(scripts.READ, _relative(path), str(offset), str(limit), path=path)
        return content_of(answer, offset=offset, limit=limit)

    async def write_file(
        self, path: str, content: bytes, *, overwrite: bool, base_sha256: str | None = None
    ) -> FileStat:
        if base_sha256 is not None and len(base_sha256) != 64:
            raise InvalidInput("base_sha256 is 64 hexadecimal digits.", hint="Pass the hash that reading returned.")
        name, nonce = _relative(path), secrets.token_hex(4)
        arguments = [name, str(int(overwrite)), (base_sha256 or "").lower(), nonce, str(len(content))]
        undo = (scripts.UNDO_WRITE, name, nonce)
        return described(await self._shell.call(scripts.WRITE, *arguments, content=content, path=path, undo=undo))

    async def delete_file(self, path: str, *, recursive: bool = False) -> int:
        return number(await self._shell.call(scripts.DELETE, _relative(path), str(int(recursive)), path=path))

    async def stat(self, path: str) -> FileStat:
        return described(await self._shell.call(scripts.STAT, _relative(path), path=path))

    async def list_files(self, path: str, *, depth: int = 1, limit: int = 1000) -> Listing:
        return listing(entries(await self._shell.call(scripts.LIST, _relative(path), str(depth), path=path)), limit)

    async def glob(self, pattern: str, *, limit: int = 1000) -> Listing:
        encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        found = entries(await self._shell.call(scripts.FILES))
        return listing([one for one in found if matches(pattern, one.path)], limit, order=own_work_first)

    async def search(
        self, pattern: str, *, path: str = ".", glob: str | None = None, limit: int = 200, timeout_s: float = 10.0
    ) -> SearchResult:
        encoded_text(pattern, what="pattern", longest=MAX_PATTERN_BYTES)
        try:
            # Not asyncio's, before which nothing is shielded: what is being started then would run on, and nobody know of it.
            with anyio.fail_after(timeout_s):
                answer = await self._shell.call(scripts.SEARCH, pattern, _relative(path), path=path)
        except TimeoutError:
            raise TimedOut(
                f"The search took longer than {timeout_s:g} s.",
                hint="Name a folder or a glob, or simplify the pattern.",
            ) from None
        searched = searched_of(answer)
        found = [match for match in searched.matches if glob is None or matches(glob, match.path)]
        too_large = sum(glob is None or matches(glob, path) for path in searched.too_large)
        return SearchResult(matches=tuple(found[:limit]), truncated=len(found) > limit, too_large=too_large)

    async def usage(self) -> SandboxUsage:
        return usage_of(await self._shell.call(scripts.USAGE))

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
        said = (await self._shell.call(scripts.FACTS)).decode("utf-8", "replace")
        pairs = [line.partition("=") for line in said.splitlines()]
        facts = {name: value.strip(",") for name, _, value in pairs}
        if facts.pop("routes", "") == "0":
            facts |= {f"connect {address}": "unreachable" for address in (METADATA, RESOLVER)}
        return facts


def _no_agent() -> WrongState:
    return WrongState("A sandbox without Python has no network.", hint="Use an image with python3.")


def _relative(path: str) -> str:
    return workspace_path(path).decode()
