"""Which browser a runtime gets from a driver that keeps them, how large it is, and for how long it stays."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest

from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.errors import RuntimeUnavailable, WrongState
from tests.browser.rigs import (
    LIMITS,
    PATIENCE_S,
    Opener,
    alive,
    below,
    eventually,
    host_of,
    limits_of,
    reason_of,
    root_of,
)
from tests.browser.small_net import SmallNet


class Sizes:
    async def test_d14_a_browser_has_the_limits_of_its_runtime_or_space_also_a_warm_one(
        self, warm: BrowserDriver, net: SmallNet
    ) -> None:
        opener, space = Opener(warm, net, []), replace(LIMITS, cpu_cores=0.5, memory_bytes=384 << 20, pids=200)
        with anyio.fail_after(PATIENCE_S * 2):
            await warm.warm()
            (ready,) = warm._warm  # type: ignore[attr-defined]
            shared = await opener.open(limits=space)
            assert host_of(shared) is ready and limits_of(shared) == space
            # The space's ceiling was raised meanwhile: the operator's setting holds from then on.
            beside = await opener.open(limits=replace(LIMITS, memory_bytes=8 << 30, cpu_cores=64))
            assert host_of(beside) is ready and limits_of(beside) == LIMITS
            more = replace(LIMITS, memory_bytes=LIMITS.memory_bytes + (64 << 20), cpu_cores=1)
            assert limits_of(await opener.open(own_process=True, limits=more)) == more
            for live in opener.lives:
                await live.close()


class Keeping:
    async def test_a_browser_stays_for_a_while_and_is_used_again(self, opener: Opener) -> None:
        first = await opener.open("sp_stays")
        await first.close()
        again = await opener.open("sp_stays")
        assert again.browser is first.browser

    async def test_one_that_a_runtime_has_for_itself_goes_with_it(self, opener: Opener) -> None:
        alone = await opener.open("sp_alone", own_process=True)
        pids = below(root_of(alone))
        await alone.close()
        await eventually(lambda: not any(alive(pid) for pid in pids))

    async def test_a_second_client_is_for_one_that_a_runtime_has_for_itself(
        self, opener: Opener, driver: BrowserDriver
    ) -> None:
        with pytest.raises(WrongState):
            await driver.debug(await opener.open())
        live = await opener.open(own_process=True)
        client = await driver.debug(live)
        await client.send('{"id": 7, "method": "Browser.getVersion"}')
        with anyio.fail_after(PATIENCE_S):
            while json.loads(told := await client.receive()).get("id") != 7:
                pass
        assert "HeadlessChrome" in told
        # What is no message of the protocol ends a browser that sends it: nobody would read on.
        host_of(live)._heard(b"[1]\0")
        assert await reason_of(live) == "what it sent could not be taken"
        await client.aclose()

    async def test_a_closed_driver_opens_nothing(self, opener: Opener, fresh: BrowserDriver) -> None:
        await fresh.aclose()
        with pytest.raises(RuntimeUnavailable):
            await Opener(fresh, opener.net, []).open()


class Pool:
    async def test_a_warm_browser_is_handed_out_once(self, warm: BrowserDriver, net: SmallNet) -> None:
        opener, hosts = Opener(warm, net, []), []
        with anyio.fail_after(PATIENCE_S * 2):
            for number in range(3):
                await warm.warm()
                live = await opener.open(f"sp_{number}")
                hosts.append(host_of(live))
                await opener.page(live)
                await live.close()
                await warm.warm()
        assert len({id(host) for host in hosts}) == 3
        (ready,) = warm._warm  # type: ignore[attr-defined]
        assert ready not in hosts and not ready.contexts

    async def test_a_warm_browser_that_dies_is_not_handed_out(self, warm: BrowserDriver, net: SmallNet) -> None:
        opener = Opener(warm, net, [])
        with anyio.fail_after(PATIENCE_S * 2):
            await warm.warm()
            (ready,) = warm._warm  # type: ignore[attr-defined]
            ready.end("a test ended it")
            live = await opener.open()
            assert host_of(live) is not ready
            await opener.page(live)
