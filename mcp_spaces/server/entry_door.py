"""Where a person reaches a secret's page while HTTP is off: a port on loopback, open only while a page is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.server.entry_pages import ENTRY_PATH, EntryPages, is_from_its_page
from mcp_spaces.server.http_answer import Answer, refusal_of
from mcp_spaces.server.http_protocol import Deadlines, bound, serving

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mcp_spaces.server.port import Entries
    from mcp_spaces.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
CONNECTIONS_MAX = 16
OPENING_S = 5.0


class EntryDoor:
    """Run `run` for as long as requests may come; `address` is what `Entries.address` is to be."""

    def __init__(self, entries: Entries, settings: Settings) -> None:
        self._entries = entries
        self._settings = settings
        self._wanted = anyio.Event()
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def address(self) -> str:
        """Raises WrongState when no port can be had."""
        self._wanted.set()
        with anyio.move_on_after(OPENING_S):
            return await asyncio.shield(self._url)
        raise WrongState("The page cannot be shown.", hint="The operator can store the secret: mcp-spaces vault set")

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            try:
                async with self._open() as url:
                    self._url.set_result(url)
                    await self._entries.wait_while_open()
                    # Without a pause after the last look, so that nobody is sent to a port that is about to close.
                    self._url = asyncio.get_running_loop().create_future()
            except SpacesError as error:
                log.error("no page for secrets: %s", error.message)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[str]:
        with bound(LOOPBACK, 0) as listener:
            port = listener.getsockname()[1]
            names = [f"{name}:{port}" for name in (LOOPBACK, "localhost")]
            front = _Front(self._entries, hosts=frozenset(names), origins=frozenset(f"http://{name}" for name in names))
            async with serving(
                front,
                listener,
                deadlines=Deadlines(self._settings.http_header_s, self._settings.http_body_s),
                connections_max=CONNECTIONS_MAX,
            ):
                yield f"http://{LOOPBACK}:{port}"


class _Front:
    """Pages for secrets, and nothing else."""

    def __init__(self, entries: Entries, *, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._pages = EntryPages(entries)
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(scope, send)
        try:
            page = ENTRY_PATH.fullmatch(scope["path"])
            origins = self._origins | {"null"} if is_from_its_page(scope) else self._origins
            if refusal := refusal_of(scope, hosts=self._hosts, origins=origins):
                await answer.json(403, {"error": "forbidden", "message": refusal})
            elif page is None:
                await answer.json(404, {"error": "not_found", "message": "Only pages for secrets are served here."})
            else:
                await self._pages.serve(page[1], scope, receive, answer)
        except Exception:
            log.exception("internal error in a page for secrets")
            if answer.status is None:
                await answer.json(500, {"error": "internal", "message": "The daemon's log has the cause."})
        finally:
            answer.log()
