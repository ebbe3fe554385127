"""The walls around Chromium itself, where the driver builds them."""

from __future__ import annotations

import os
from contextlib import suppress

from tests.browser.rigs import (
    Opener,
    arguments_of,
    chromium_of,
    eventually,
    is_confined,
    listening_in,
    names_in,
    read_lines,
    space_of,
    status_of,
)


class Walls:
    """Threat B22: what a page can do once it got out of its renderer."""

    async def test_b22_chromium_runs_as_another_user_without_capabilities(self, opener: Opener) -> None:
        live = await opener.open()
        await opener.page(live)
        (browser,), renderers = chromium_of(live), chromium_of(live, "renderer")
        assert renderers
        for pid in (browser, *renderers):
            with suppress(FileNotFoundError, ProcessLookupError):
                status = status_of(pid)
                assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
                assert status["NoNewPrivs"] == "1"
        assert {status_of(browser)[one].strip("0") for one in ("CapEff", "CapPrm", "CapAmb", "CapBnd")} == {""}

    async def test_b22_chromiums_own_sandbox_is_on(self, opener: Opener) -> None:
        live = await opener.open()
        await opener.page(live)
        (browser,), renderers = chromium_of(live), chromium_of(live, "renderer")
        for pid in (browser, *renderers, *chromium_of(live, "zygote")):
            assert not [one for one in arguments_of(pid) if "no-sandbox" in one]
        # A filter of its own beside the one that it was started under, and namespaces of its own: once it has put
        # itself in there.
        await eventually(lambda: all(is_confined(pid, browser) for pid in chromium_of(live, "renderer")))


class Jails:
    """Where Chromium has namespaces of its own."""

    async def test_b21_nothing_in_there_listens_but_the_ways_out(self, opener: Opener) -> None:
        live, beside = await opener.open(), await opener.open()
        await opener.page(live)
        (browser,) = chromium_of(live)
        ports = {one._way.port for one in opener.lives if one.browser is live.browser}  # type: ignore[attr-defined]
        assert live.browser is beside.browser and listening_in(browser) <= ports

    async def test_n22_chromium_has_no_network_but_loopback(self, opener: Opener) -> None:
        live = await opener.open()
        (browser,) = chromium_of(live)
        lines = read_lines(f"/proc/{browser}/net/dev")[2:]
        used = {line.partition(":")[0].strip() for line in lines if int(line.partition(":")[2].split()[1])}
        routes = read_lines(f"/proc/{browser}/net/route")[1:]
        assert used <= {"lo"} and routes == [] and space_of(browser, "net") != space_of(os.getpid(), "net")

    async def test_chromium_sees_no_process_of_this_machine(self, opener: Opener) -> None:
        (browser,) = chromium_of(await opener.open())
        assert space_of(browser, "pid") != space_of(os.getpid(), "pid")
        assert str(os.getpid()) not in names_in(f"/proc/{browser}/root/proc")
