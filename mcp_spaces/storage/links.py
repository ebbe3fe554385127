"""One-time links: a row that grants one download of one version of one file, until it is used or over."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import NotFound, SpacesError, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.storage.model import StoredFile
from mcp_spaces.storage.store import FileStore

TABLE = "links"


class Link(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str
    path: str
    sha256: str
    secret_sha256: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class LinkedFile:
    """What a link gives. The server adds the headers that keep a browser from running it (threat S18)."""

    file_name: str
    content_type: str
    size_bytes: int
    chunks: AsyncIterator[bytes]


class Links:
    """`public_url` is where the daemon is reached from outside, without a slash at its end; None when unknown.

    `served`: whether anything listens on HTTP at all.
    """

    def __init__(
        self, database: Database, files: FileStore, clock: Clock, *, public_url: str | None = None, served: bool = True
    ) -> None:
        self._database = database
        self._files = files
        self._clock = clock
        self._public_url = public_url
        self._served = served

    async def create(self, file: StoredFile, *, token: str, expires_at: float) -> str:
        """The address for a fresh `token` (see `new_link_token`): complete, or a path where the host is unknown.

        Raises WrongState where nothing would answer there.
        """
        if not self._served:
            raise WrongState(
                "Nothing serves links here: HTTP is off.",
                hint="The operator starts the daemon with MCP_SPACES_HTTP_PORT; or read the file with storage_read.",
            )
        link_id, secret = _parse(token)
        body, mac = seal(
            self._database.sealer,
            TABLE,
            link_id,
            Link(
                namespace=file.tree,
                path=file.path,
                sha256=file.sha256,
                secret_sha256=_hash(secret),
                expires_at=expires_at,
            ),
        )
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO links (id, namespace, expires_at, body, mac) VALUES (?, ?, ?, ?, ?)",
                (link_id, file.tree, expires_at, body, mac),
            )
        )
        return f"{self._public_url or ''}/links/{token}"

    async def redeem(self, token: str) -> LinkedFile:
        """Works once. Raises NotFound, with one text: never issued, used, over, or the file changed since."""
        try:
            link_id, secret = _parse(token)
        except ValueError:
            raise _no_such_link() from None

        def take(tx: Transaction) -> Link | None:
            row = tx.one("SELECT id, body, mac FROM links WHERE id = ?", (link_id,))
            if row is None:
                return None
            try:
                link = unseal(self._database.sealer, TABLE, row, Link)
            except SpacesError:
                return None
            if not hmac.compare_digest(link.secret_sha256, _hash(secret)):
                return None
            tx.execute("DELETE FROM links WHERE id = ?", (link_id,))
            return link

        link = await self._database.write(take)
        if link is None or link.expires_at <= self._clock.now():
            raise _no_such_link()
        file = self._files.find(link.namespace, link.path)
        if file is None or file.sha256 != link.sha256:
            raise _no_such_link()
        reader = self._files.blobs.open(file.tree, file.sha256)
        return LinkedFile(
            file_name=file.path.rpartition("/")[2],
            content_type=file.description.content_type,
            size_bytes=file.size_bytes,
            chunks=reader.chunks(),
        )


def new_link_token(secret: str) -> str:
    """`secret` has 43 URL-safe characters. The form is that of our keys, so that redaction keeps it out of records."""
    return f"msp_{new_id('lnk').removeprefix('lnk_')}_{secret}"


def _parse(token: str) -> tuple[str, str]:
    prefix, _, rest = token.partition("_")
    public, _, secret = rest.partition("_")
    if prefix != "msp" or len(public) != 26 or len(secret) != 43 or not token.isascii():
        raise ValueError("no link token")
    return f"lnk_{public}", secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _no_such_link() -> NotFound:
    return NotFound("No such link.", hint="Links work once and for a limited time; make another: storage_link")
