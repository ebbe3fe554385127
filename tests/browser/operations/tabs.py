"""One browser of a whole app, called as agents call it: a real Chromium in its container, behind the real gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from mcp_spaces.app import App
from mcp_spaces.errors import SpacesError
from tests.browser.chromium import Site

PATIENCE_S = 60
HOST = "http://page.test"
SHOP = """<!doctype html><title>Shop</title><h1>Shop</h1>
<form action="/thanks"><label>Name <input name=name></label>
<label>Colour <select name=colour><option>red<option>blue</select></label>
<label><input type=checkbox name=gift> As a gift</label>
<button>Order</button></form>
<button onclick="document.querySelector('#said').textContent = 'Pressed ' + ++window.n">Press</button><p id=said></p>
<button onclick="this.textContent = confirm('Really?') ? 'Yes' : 'No'">Ask</button>
<button onclick="fetch('/late').then(r => r.text()).then(t => document.querySelector('#said').textContent = t)">Fetch</button>
<a href="/thanks" target=_blank>Elsewhere</a> <a href="/file.csv" download="../../x.csv">Report</a>
<label>File <input type=file onchange="document.querySelector('#said').textContent = this.files[0].name + this.files[0].size"></label>
<script>window.n = 0; console.warn('careful')</script>"""


@dataclass
class Tab:
    """One browser of the world's app, for one test."""

    app: App
    site: Site
    alias: str

    async def call(self, operation: str, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            given = {"space": "work", "runtime": self.alias, **arguments}
            return (await self.app.pipeline.call(self.app.local_agent(), f"browser.{operation}", given)).output

    async def refused(self, operation: str, kind: type[SpacesError], **arguments: Any) -> SpacesError:
        with pytest.raises(kind) as caught:
            await self.call(operation, **arguments)
        assert caught.value.hint
        return caught.value

    async def shop(self) -> dict[str, str]:
        """The shop's page; refs by name."""
        self.site.made["shop"] = SHOP
        opened = await self.call("navigate", url=f"{HOST}/shop")
        return dict(re.findall(r'"([^"]+)" (e\d+)', opened.changes))
