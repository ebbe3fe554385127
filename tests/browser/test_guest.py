"""The second client of a browser: what it may ask, how much may wait for it, and what comes for it alone."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.driver.devtools import GUEST_ASKS_MAX, GUEST_WAITING_BYTES_MAX, DevToolsPipe, Guest
from mcp_spaces.errors import RuntimeUnavailable
from tests.browser.rigs import PATIENCE_S

ORDER = '{"id": %d, "method": "Browser.getVersion"}'


class Chromium:
    """The other end of the pipe, which lets everybody in and says what a test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.pipe = DevToolsPipe(self._take)

    async def _take(self, content: bytes) -> None:
        order = json.loads(content.rstrip(b"\0"))
        self.asked.append(order)
        if order["method"] == "Target.attachToBrowserTarget":
            self.say(id=order["id"], result={"sessionId": "S1"})

    def say(self, **told: Any) -> None:
        self.pipe.feed(json.dumps(told).encode() + b"\0")


async def guest_of(chromium: Chromium) -> Guest:
    with anyio.fail_after(PATIENCE_S):
        return await chromium.pipe.invite()


@pytest.mark.parametrize(
    "order",
    [
        '{"id": true, "method": "Browser.getVersion"}',
        '{"id": 1, "method": "Browser.getVersion", "params": []}',
        '{"id": 1, "method": "Browser.getVersion", "sessionId": "P1"}',
        '{"id": 1, "method": "Browser.getVersion", "sessionId": ""}',
        '{"id": 1, "method": "Browser.getVersion", "sessionId": 1}',
        "[" * 100_000,
    ],
)
async def test_b21_what_is_no_order_of_its_own_sessions_never_reaches_the_browser(order: str) -> None:
    chromium = Chromium()
    guest = await guest_of(chromium)
    with pytest.raises(ValueError):  # noqa: PT011 - the text of the library's own differs
        await guest.send(order)
    assert len(chromium.asked) == 1


async def test_a_session_below_is_its_own_until_it_is_detached() -> None:
    chromium = Chromium()
    guest = await guest_of(chromium)
    below = '{"id": 2, "method": "Page.enable", "sessionId": "S2"}'
    chromium.say(method="Target.attachedToTarget", params={"sessionId": "S2"}, sessionId="S1")
    assert json.loads(await guest.receive()) == {"method": "Target.attachedToTarget", "params": {"sessionId": "S2"}}
    await guest.send(below)
    assert chromium.asked[-1]["sessionId"] == "S2"
    chromium.say(method="Target.detachedFromTarget", params={"sessionId": "S2"}, sessionId="S1")
    with pytest.raises(ValueError, match="not a session"):
        await guest.send(below)


async def test_an_answer_that_comes_late_is_neither_the_next_one_s_nor_playwright_s() -> None:
    chromium = Chromium()
    first = await guest_of(chromium)
    await first.send(ORDER % 5)
    late = chromium.asked[-1]["id"]
    second = await guest_of(chromium)
    await second.send(ORDER % 5)
    chromium.say(id=late, result={"late": True})
    chromium.say(id=chromium.asked[-1]["id"], result={"late": False}, sessionId="S1")
    assert json.loads(await second.receive()) == {"id": 5, "result": {"late": False}}
    assert not chromium.pipe._waiting


async def test_orders_without_answers_are_counted() -> None:
    chromium = Chromium()
    guest = await guest_of(chromium)
    for number in range(GUEST_ASKS_MAX):
        await guest.send(ORDER % number)
    with pytest.raises(ValueError, match="too many orders"):
        await guest.send(ORDER % 1)
    chromium.say(id=chromium.asked[-1]["id"], result={})
    await guest.send(ORDER % 1)


async def test_a_client_that_reads_too_slowly_is_sent_away_and_one_that_reads_is_not() -> None:
    chromium = Chromium()
    guest = await guest_of(chromium)
    text = "x" * (GUEST_WAITING_BYTES_MAX * 2 // 3)
    for _ in range(3):
        chromium.say(method="Page.said", params={"text": text}, sessionId="S1")
        assert text in await guest.receive()
    for _ in range(2):
        chromium.say(method="Page.said", params={"text": text}, sessionId="S1")
    assert chromium.pipe.guest is None and not chromium.pipe.broken.is_set()
    assert text in await guest.receive()
    with pytest.raises(RuntimeUnavailable), anyio.fail_after(PATIENCE_S):
        await guest.receive()
