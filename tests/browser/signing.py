"""The whole app with the real gateway, a real browser in its container, and the site: what tests of logins start from.

A fresh browser takes 0.15 s where its space's Chromium runs already: tests that leave one behind take a new one.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.app import App, open_app
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import encodings
from mcp_spaces.errors import SpacesError
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from mcp_spaces.spaces.model import Runtime, RuntimeKind
from mcp_spaces.state.database import Database
from mcp_spaces.vault.service import Vault
from tests.browser.site.accounts import Person
from tests.browser.site.records import Record
from tests.browser.site.server import NAMES, Site

PATIENCE_S = 100
APP = "https://app.test"
EVIL = "https://evil.test"
SPACE = "work"
HOSTS = [f"{name}:{port}" for name in NAMES for port in (80, 443, 8443)]
"""evil.test is in the list: what keeps a secret from it is not the list."""


@dataclass
class Rig:
    app: App
    site: Site
    folder: Path
    caller: Caller
    aliases: Any = field(default_factory=lambda: itertools.count(1))
    runtime: str = ""
    runs: list[str] = field(default_factory=list)

    # Calls

    async def call(self, operation: str, *, caller: Caller | None = None, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            where = {"space": SPACE, "runtime": self.runtime} if operation.startswith("browser.") else {}
            outcome = await self.app.pipeline.call(caller or self.caller, operation, {**where, **arguments})
        self.runs.append(outcome.run_id)
        return outcome.output

    async def govern(self, operation: str, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            return (await self.app.pipeline.call(self.app.operator(), operation, arguments)).output

    async def refusal(self, operation: str, **arguments: Any) -> SpacesError:
        """The error of a call that has to be refused."""
        try:
            output = await self.call(operation, **arguments)
        except SpacesError as error:
            return error
        pytest.fail(f"{operation} was not refused: {output}")

    async def space(self, name: str) -> None:
        """One that reaches the site and mounts its logins."""
        mounts = {"network": {"mode": "allowlist", "allow": HOSTS}, "vault": {"allow": ["prod"]}}
        await self.govern("space.create", name=name, policy={"preset": "permissive"}, mounts=mounts)

    async def fresh(self, **options: Any) -> None:
        """Another browser; the one before is deleted."""
        if self.runtime:
            await self.call("browser.delete")
        self.site.forget()
        self.runtime = f"b{next(self.aliases)}"
        await self.launch(**options)

    async def launch(self, **options: Any) -> None:
        """The same one again."""
        with anyio.fail_after(PATIENCE_S):
            wanted = {"space": SPACE, "alias": self.runtime, **options}
            await self.app.pipeline.call(self.caller, "browser.launch", wanted)

    async def secret(self, *, code: bool = False, **fields: Any) -> str:
        """A login of the site's person at a path of its own, bound to the site."""
        path = f"prod/login{next(self.aliases)}"
        person = self.site.person
        given = {"username": person.name, "password": person.password, "origins": [APP], **fields}
        if code:
            given["totp"] = person.address
        await self.govern("vault.set", path=path, kind="login", **given)
        return path

    async def login(self, page: str, *, secret: str | None = None, code: bool = False, **more: Any) -> Any:
        url = page if "://" in page else APP + page
        return await self.call("browser.login", secret=secret or await self.secret(code=code), url=url, **more)

    # What is known afterwards

    @property
    def browsers(self) -> BrowserService:
        return self.app.services.use(BrowserService)

    @property
    def row(self) -> Runtime:
        (row,) = [one for one in self.browsers.runtimes.all(kind=RuntimeKind.BROWSER) if one.alias == self.runtime]
        return row

    @property
    def live(self) -> LiveBrowser:
        return self.browsers.started(self.row.id)

    @property
    def gateway(self) -> Gateway:
        return self.app.services.use(Gateway)

    async def state(self) -> str:
        return str((await self.call("browser.get")).state)

    def is_in(self, answer: Any) -> bool:
        """What a login answered, and what the site says of it."""
        return bool(answer.signed_in and self.site.accounts.sessions)

    async def was_opened(self, path: str) -> bool:
        return await self.app.services.use(Vault).last_use(path) is not None

    def leaks(self) -> list[Record]:
        """Whatever reached another host than app.test with the password in it, in any encoding."""
        return [one for one in self.site.holding(self.site.person.password) if one.host != "app.test"]

    def recorded(self) -> str:
        """All that the database says of runs, cell by cell as it is: what JSON would escape once more is not found."""
        database = self.app.services.use(Database)
        tables = ("runs", "events", "audit", "idempotency", "approvals", "artifacts")
        cells = (cell for table in tables for row in database.read(f"SELECT * FROM {table}") for cell in tuple(row))
        return "\n".join(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in cells)


@asynccontextmanager
async def open_rig(folder: Path, *, clock: Clock | None = None, period_s: int = 30) -> AsyncIterator[Rig]:
    """`period_s`: of the person's one-time codes, at least 5."""
    made = Person.new()
    person = Person(made.name, made.password, made.key, period_s)
    state = folder / "state"
    make_private(state)
    async with Site(person=person) as site:
        settings = Settings(
            state_dir=state,
            vault_key_source="file",
            network_private_hosts=tuple(site.private_hosts),
            browser_trusted_keys=(site.spki_hash,),
            browser_pool_size=0,
            sandbox_pool_size=0,
        )
        async with open_app(settings, clock=clock) as app:
            rig = Rig(app, site, folder, app.operator())
            await rig.space(SPACE)
            await rig.fresh()
            yield rig


def forms(secret: str) -> set[bytes]:
    """In which a secret may stand in files."""
    return {one.encode("utf-8", "surrogatepass") for one in encodings(secret)}


def holds(content: bytes, *secrets: str) -> bool:
    """One of them, in any of these forms."""
    return any(form in content for secret in secrets for form in forms(secret))
