"""Pages for programs of steps, and short ways to write and run them."""

from __future__ import annotations

import json
from typing import Any

from mcp_spaces.core.caller import Caller
from mcp_spaces.runs.model import EventView
from tests.browser.room import Room

SECRET = "hunter2-hunter2"
PAGES = {
    "/": "<title>Shop</title><h1>Orders</h1><label>Name <input id=n></label>"
    "<select id=s><option>red<option>blue</select><input type=checkbox id=c>"
    "<button onclick=\"document.title = 'said ' + n.value; fetch('/said')\">Say</button>"
    "<button onclick=\"alert('hello')\">Alert</button><a href=/f.bin>Get</a>"
    "<ul><li>one<li>two<li>three</ul><iframe name=inner src=/inner></iframe>",
    "/inner": "<p>inside</p>",
    "/secret": f"<input type=password id=pw value={SECRET}><p id=copy data-value={SECRET}>x</p><input id=n value=open>",
    "/long": "<title>Long</title>" + "word " * 5_000,
    "/f.bin": "BYTES",
}


async def run(room: Room, *steps: Any, mode: str = "fail-fast", caller: Caller | None = None) -> Any:
    return await room.call("browser.execute", steps=list(steps), mode=mode, caller=caller)


def step(call: str, *args: Any, ref: str | None = None, bind: str | None = None, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"call": call, "args": list(args), "ref": ref, "bind": bind, "options": options}
    return {name: value for name, value in made.items() if value not in (None, {})}


def at(room: Room, name: str = "", bind: str = "p") -> list[dict[str, Any]]:
    return [step("context.newPage", bind=bind, ref="context"), step("page.goto", room.url + name, ref=bind)]


def body(line: EventView) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(line.body))
    return told


def results(answer: Any) -> list[Any]:
    return [event.result for event in answer.events]
