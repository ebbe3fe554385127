"""One operation at a time in a browser, whatever happens while another one waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.model import BrowserOptions
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.errors import WrongState
from tests.browser.rigs import PATIENCE_S
from tests.security.app import eventually, open_world

pytestmark = pytest.mark.anyio


async def test_l20_who_waits_for_a_turn_does_not_act_beside_a_client_that_was_let_in_meanwhile() -> None:
    nowhere: Any = object()
    live = LiveBrowser(nowhere, BrowserOptions(), run_id="run_launch", refusal=nowhere)
    refused: list[str] = []

    async def act() -> None:
        with pytest.raises(WrongState) as told:
            async with live.turn(Redactor(), run_id="run_act"):
                refused.append("acted")
        refused.append(told.value.message)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group, live.turn(Redactor(), run_id="run_connect"):
            group.start_soon(act)
            await anyio.wait_all_tasks_blocked()
            live.leased_until = 1.0
    assert refused == ["Somebody else controls this browser (a CDP lease)."]
    live.leased_until = None
    async with live.turn(Redactor(), run_id="run_later"):
        assert live.current_run == "run_later"


async def test_l07_a_recording_begins_when_whoever_came_before_has_ended(tmp_path: Path) -> None:
    """A browser is found as soon as it is there, which is before its launch has answered."""
    async with open_world(tmp_path) as world:
        space, browsers = await world.space("work"), world.use(BrowserService)

        async def sign_in() -> None:
            await eventually(lambda: bool(browsers._live))
            (live,) = browsers._live.values()
            async with live.turn(Redactor(), run_id="run_login"):
                await eventually(lambda: live._turn._waiters or live.recording._traces)
                assert not live.recording._traces

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(sign_in)
                await world.call("browser.launch", space=space, options={"record": True})
        (live,) = browsers._live.values()
        assert live.recording.active
