"""Storage for other rooms: the same reach, quotas and all-or-nothing as for the operations of storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from mcp_spaces.core.context import Context
from mcp_spaces.storage.model import Description, FileView, content_type_of
from mcp_spaces.storage.port import BlobReader
from mcp_spaces.storage.reach import readable, whose_limit, writable
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Target, Transfers


@dataclass(frozen=True, slots=True)
class StoredSpaceFiles:
    """Implements `SpaceFiles`."""

    files: FileStore
    transfers: Transfers

    async def keep(
        self,
        context: Context,
        chunks: AsyncIterator[bytes],
        *,
        namespace: str,
        path: str,
        source: str,
        overwrite: bool = False,
    ) -> FileView:
        place = writable(context, namespace, path)
        target = Target(
            tree=place.tree,
            path=path,
            description=Description(content_type=content_type_of(path), source=source),
            limit_bytes=place.limit_bytes,
            overwrite=overwrite,
        )
        with whose_limit(context, namespace):
            return FileView.of(place.namespace, await self.transfers.keep_chunks(chunks, target=target))

    def open(self, context: Context, *, namespace: str, path: str) -> tuple[FileView, BlobReader]:
        place = readable(context, namespace, path)
        file = self.files.get(place.tree, path)
        return FileView.of(place.namespace, file), self.files.blobs.open(file.tree, file.sha256)
