"""Files on their way between namespaces and runtimes. What comes out of a runtime is not trusted: every length is
bounded here, and a name that turned out to be a link is judged again by where it led."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import anyio

from mcp_spaces.core.context import Progress
from mcp_spaces.errors import Conflict, QuotaExceeded, RuntimeUnavailable
from mcp_spaces.sandbox.port import FileContent, FileStat, LiveSandboxes, Sandbox
from mcp_spaces.storage.model import Description, StoredFile
from mcp_spaces.storage.port import CHUNK_BYTES, Blob
from mcp_spaces.storage.store import FileStore

STAGE_BYTES_MAX = 100 << 20
"""A runtime takes a file as a whole, so this much is in memory for a moment."""
STAGES_AT_A_TIME = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a file goes, and how."""

    tree: str
    path: str
    description: Description
    limit_bytes: int
    expires_at: float | None = None
    overwrite: bool = False
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Transfers:
    files: FileStore
    sandboxes: LiveSandboxes
    _stages: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(STAGES_AT_A_TIME))

    async def stage(
        self, file: StoredFile, *, runtime_id: str, to: str, overwrite: bool, progress: Progress
    ) -> FileStat:
        """Into a runtime's workspace, all or nothing. Raises QuotaExceeded above STAGE_BYTES_MAX, Conflict when the
        target exists and `overwrite` is false, and whatever the sandbox says."""
        if file.size_bytes > STAGE_BYTES_MAX:
            raise QuotaExceeded(
                f"The file has {file.size_bytes:,} bytes; {STAGE_BYTES_MAX:,} can be staged.", hint="Split it first."
            )
        sandbox = self.sandboxes.live(runtime_id)
        # Opened before others are waited for: it may be deleted meanwhile.
        with self.files.blobs.open(file.tree, file.sha256) as reader:
            async with self._stages:
                content = bytearray()
                async for chunk in reader.chunks():
                    content += chunk
                    await progress(len(content), file.size_bytes, "reading")
                return await sandbox.write_file(to, bytes(content), overwrite=overwrite)

    async def collect(
        self,
        source: str,
        *,
        runtime_id: str,
        target: Target,
        judge: Callable[[FileContent], None],
        progress: Progress,
    ) -> StoredFile:
        """Out of a runtime's workspace. `judge` sees the first range, with the file's true path and size, and may
        raise. Raises QuotaExceeded before anything is copied, Conflict when the file changes under the copy."""
        sandbox = self.sandboxes.live(runtime_id)
        first = await sandbox.read_file(source, limit=CHUNK_BYTES)
        judge(first)
        free = _free(self.files, target)
        if first.size_bytes > free:
            raise QuotaExceeded(
                f"The file has {first.size_bytes:,} bytes; {free:,} are free in the namespace.",
                hint="Delete files (storage_delete), or collect less.",
            )
        async with self.files.incoming(target.tree, limit_bytes=free) as writer:
            piece, done = first, 0
            while piece.content:
                if len(piece.content) > CHUNK_BYTES:
                    raise _changed()
                await writer.write(piece.content)
                done += len(piece.content)
                await progress(done, first.size_bytes, "collecting")
                if done >= first.size_bytes:
                    break
                piece = await _unchanged(sandbox, source, first, offset=done, limit=CHUNK_BYTES)
            await _unchanged(sandbox, source, first, offset=done, limit=0)
            if done != first.size_bytes:
                raise RuntimeUnavailable("The runtime sent less than the file's size.", hint="Collect it again.")
            return await self._put(target, await writer.finish())

    async def copy(self, file: StoredFile, *, target: Target) -> StoredFile:
        """Inside one tree the content is not copied; between two it is, since they share nothing (threat S17)."""
        if file.tree == target.tree:
            with self.files.blobs.pinned(file.tree, file.sha256):
                # Now that it is pinned: was it still there?
                blob = self.files.get(file.tree, file.path)
                if blob.sha256 != file.sha256:
                    raise _changed()
                return await self._put(target, Blob(file.sha256, file.size_bytes))
        with self.files.blobs.open(file.tree, file.sha256) as reader:
            async with self.files.incoming(target.tree, limit_bytes=_free(self.files, target)) as writer:
                async for chunk in reader.chunks():
                    await writer.write(chunk)
                return await self._put(target, await writer.finish())

    async def keep(self, content: bytes, *, target: Target) -> StoredFile:
        """Content that is in memory already."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await self.keep_chunks(chunks(), target=target)

    async def keep_chunks(self, chunks: AsyncIterator[bytes], *, target: Target) -> StoredFile:
        """Content that comes piece by piece; nothing is kept unless all of it came."""
        async with self.files.incoming(target.tree, limit_bytes=_free(self.files, target)) as writer:
            async for chunk in chunks:
                await writer.write(chunk)
            return await self._put(target, await writer.finish())

    async def _put(self, target: Target, blob: Blob) -> StoredFile:
        return await self.files.put(
            target.tree,
            target.path,
            blob,
            description=target.description,
            limit_bytes=target.limit_bytes,
            expires_at=target.expires_at,
            overwrite=target.overwrite,
            if_version=target.if_version,
        )


async def _unchanged(sandbox: Sandbox, source: str, first: FileContent, *, offset: int, limit: int) -> FileContent:
    """A further range of the file that `first` is of. Raises Conflict."""
    piece = await sandbox.read_file(source, offset=offset, limit=limit)
    if any(getattr(piece, name) != getattr(first, name) for name in ("size_bytes", "resolved_path", "version")):
        raise _changed()
    return piece


def _free(files: FileStore, target: Target) -> int:
    """What fits at most: the file that is replaced makes room for the new one."""
    present = files.find(target.tree, target.path)
    freed = 0 if present is None else present.size_bytes
    return max(0, target.limit_bytes - files.stored_bytes(target.tree) + freed)


def _changed() -> Conflict:
    return Conflict("The file changed while it was copied; nothing was kept.", hint="Repeat when nobody writes to it.")
