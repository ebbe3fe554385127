"""An app for a whole file, and a browser of it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from mcp_spaces.app import App, open_app
from mcp_spaces.browser.pages import page
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from tests.browser.chromium import Site, serving
from tests.browser.operations.tabs import PATIENCE_S, Tab
from tests.security.app import short_folder

SETTLE_S = page.SETTLE_S


@pytest.fixture(autouse=True)
def patient_settling() -> Iterator[None]:
    """A page that starves beside others comes to rest all the same; what never does is a test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "SETTLE_S", 10.0)
        yield


@pytest.fixture
def usual_settling(patient_settling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the product waits, for tests of pages that are still loading then."""
    monkeypatch.setattr(page, "SETTLE_S", SETTLE_S)


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[tuple[App, Site]]:
    with short_folder() as folder, serving() as site:
        site.made.update({"thanks": "<title>Thanks</title><h1>Thank you</h1>", "late": "it came"})
        port = site.origin.rpartition(":")[2]
        settings = Settings(
            state_dir=folder / "state",
            vault_key_source="file",
            browser_pool_size=0,
            network_private_hosts=(f"page.test:80=127.0.0.1:{port}",),
        )
        make_private(settings.state_dir)
        async with open_app(settings) as app:
            network = {"mode": "allowlist", "allow": ["page.test"]}
            operator = app.operator()
            agent = (await app.pipeline.call(operator, "principal.list", {})).output.model_dump()["principals"][0]
            grant = {"principal": agent["id"], "scope": {"network": network, "limits": {"runtimes": 8}}}
            await app.pipeline.call(operator, "principal.grant", grant)
            wanted = {"name": "work", "mounts": {"network": network}, "limits": {"runtimes": 8}}
            await app.pipeline.call(app.local_agent(), "space.create", wanted)
            yield app, site


@pytest.fixture
async def tab(world: tuple[App, Site]) -> AsyncIterator[Tab]:
    app, site = world
    tab = Tab(app, site, "tab")
    with anyio.fail_after(PATIENCE_S):
        await app.pipeline.call(app.local_agent(), "browser.launch", {"space": "work", "alias": "tab"})
    yield tab
    with anyio.fail_after(PATIENCE_S):
        await app.pipeline.call(app.local_agent(), "browser.delete", {"space": "work", "runtime": "tab"})
