"""What every browser driver does, whatever Chromium runs in. `test_contract.py` runs it for each of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from dataclasses import replace

import anyio
import pytest
from playwright.async_api import Error

from mcp_spaces.browser.model import Viewport
from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.errors import NotFound, RuntimeUnavailable, WrongState
from tests.browser.rigs import (
    LIMITS,
    PATIENCE_S,
    Opener,
    alive,
    arguments_of,
    below,
    chromium_of,
    end_place,
    eventually,
    held_in,
    host_of,
    is_confined,
    is_playwrights,
    limits_of,
    listening_in,
    names_in,
    read_lines,
    reason_of,
    root_of,
    space_of,
    status_of,
)
from tests.browser.small_net import Canaries, SmallNet

COUNT = (
    "() => [document.cookie, localStorage.length, (() => { try { return indexedDB ? 1 : 0 } catch { return 0 } })()]"
)
LOADS = """async url => {
    const image = new Image(), ended = new Promise(done => { image.onload = image.onerror = done })
    image.src = url
    const fetched = fetch(url, {mode: 'no-cors'}).then(() => 'answered', () => 'failed')
    await ended
    return fetched
}"""
GATHER = """async server => {
    const peer = new RTCPeerConnection({iceServers: [{urls: server}]})
    peer.createDataChannel('any')
    const found = []
    const ended = new Promise(done => {
        peer.onicecandidate = event => event.candidate ? found.push(event.candidate.candidate) : done()
        setTimeout(done, 3000)
    })
    await peer.setLocalDescription(await peer.createOffer())
    await ended
    return found
}"""


class Contexts:
    async def test_contexts_of_one_space_share_a_browser_and_nothing_else(self, opener: Opener) -> None:
        one, two = await opener.open(), await opener.open()
        assert one.browser is two.browser
        page = await opener.page(one)
        await page.evaluate("() => { document.cookie = 'who=one; max-age=999'; localStorage.setItem('who', 'one') }")
        assert (await (await opener.page(two)).evaluate(COUNT))[:2] == ["", 0]
        assert (await (await opener.page(one)).evaluate(COUNT))[:2] == ["who=one", 1]

    async def test_contexts_of_two_spaces_are_in_two_browsers(self, opener: Opener) -> None:
        one, two = await opener.open("sp_one"), await opener.open("sp_two")
        assert one.browser is not two.browser
        assert set(chromium_of(one)).isdisjoint(chromium_of(two))

    async def test_a_context_with_a_process_of_its_own_is_alone_in_it(self, opener: Opener) -> None:
        shared, alone = await opener.open(), await opener.open(own_process=True)
        assert set(chromium_of(shared)).isdisjoint(chromium_of(alone))
        assert (await opener.open()).browser is not alone.browser

    async def test_locale_time_zone_and_size_are_as_asked_for(self, opener: Opener) -> None:
        live = await opener.open(locale="de-DE", timezone="Asia/Tokyo", viewport=Viewport(width=640, height=480))
        found = await (await opener.page(live)).evaluate(
            "() => [navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, innerWidth, innerHeight]"
        )
        assert found == ["de-DE", "Asia/Tokyo", 640, 480]

    async def test_what_a_context_remembers_can_be_given_to_another(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        await page.evaluate(
            """async () => {
                document.cookie = 'who=one; max-age=999'
                localStorage.setItem('place', 'here')
                await new Promise(done => {
                    const asked = indexedDB.open('box', 1)
                    asked.onupgradeneeded = () => asked.result.createObjectStore('shelf').put('kept', 'thing')
                    asked.onsuccess = done
                })
            }"""
        )
        state = await live.context.storage_state(indexed_db=True)
        await live.close()
        later = await opener.page(await opener.open(storage=json.loads(json.dumps(state))))
        assert await later.evaluate("() => [document.cookie, localStorage.getItem('place')]") == ["who=one", "here"]
        assert (
            await later.evaluate(
                """() => new Promise(done => {
                indexedDB.open('box').onsuccess = event => {
                    event.target.result.transaction('shelf').objectStore('shelf').get('thing').onsuccess =
                        found => done(found.target.result)
                }
            })"""
            )
            == "kept"
        )

    async def test_a_further_context_that_nobody_waits_for_goes_again(self, opener: Opener) -> None:
        live = await opener.open()
        before = await held_in(live.browser)
        making = asyncio.ensure_future(live.another())
        # It is under way by then, and takes longer.
        await asyncio.wait({making}, timeout=0.001)
        making.cancel()
        with suppress(asyncio.CancelledError):
            await making
        kept = await live.another()
        await kept.close()
        with anyio.fail_after(PATIENCE_S):
            while (now := await held_in(live.browser)) != before:
                pass
        assert now == before

    async def test_a_window_that_a_page_opens_is_a_page_of_its_context(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        with anyio.fail_after(PATIENCE_S):
            async with live.context.expect_page() as opened:
                await page.evaluate("() => { open('http://two.test/') }")
            assert await opened.value in live.context.pages

    async def test_a_download_is_read_by_the_browsers_own_name_for_it_and_removed(
        self, opener: Opener, net: SmallNet
    ) -> None:
        net.pages["/download"] = "x" * 300_000
        live = await opener.open()
        page = await live.context.new_page()
        session = await live.context.new_cdp_session(page)
        target = await session.send("Target.getTargetInfo")
        commands, guid = await live.browser.new_browser_cdp_session(), asyncio.get_running_loop().create_future()

        def progress(told: dict[str, str]) -> None:
            if told["state"] == "completed" and not guid.done():
                guid.set_result(told["guid"])

        commands.on("Browser.downloadProgress", progress)
        where = {"browserContextId": target["targetInfo"]["browserContextId"], "downloadPath": live.downloads_folder}
        await commands.send("Browser.setDownloadBehavior", {"behavior": "allowAndName", "eventsEnabled": True, **where})
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(Error):
                await page.goto("http://one.test/download")
            name = await guid
            content = b"".join([piece async for piece in live.read_file(name)])
        assert content == b"x" * 300_000
        for _ in range(2):
            await live.remove_file(name)
        for wrong in (name, "../profile/Local State", "/etc/passwd", ""):
            with pytest.raises((NotFound, WrongState)):
                _ = [piece async for piece in live.read_file(wrong)]

    async def test_closing_is_idempotent_and_says_so(self, opener: Opener) -> None:
        live = await opener.open()
        await opener.page(live)
        await asyncio.gather(live.close(), live.close())
        await live.close()
        assert await reason_of(live) == "it was stopped"


class WaysOut:
    """Threat N22: every byte goes to `accept`, and there is no other way."""

    async def test_n22_every_kind_of_traffic_goes_to_the_gateway(self, opener: Opener, net: SmallNet) -> None:
        page = await opener.page(url="https://one.test/")
        await page.goto("http://one.test/plain")
        heard = await page.evaluate(
            """() => new Promise((done, failed) => {
                const socket = new WebSocket('ws://two.test/live')
                socket.onmessage = event => done(event.data)
                socket.onerror = () => failed(new Error('no socket'))
            })"""
        )
        assert heard == "hello"
        assert {"CONNECT one.test:443 HTTP/1.1", "GET http://one.test/plain HTTP/1.1"} <= set(net.asked)
        assert "CONNECT two.test:80 HTTP/1.1" in net.asked

    async def test_n22_loopback_host_and_metadata_addresses_go_to_the_gateway_too(
        self, opener: Opener, net: SmallNet, canaries: Canaries
    ) -> None:
        page = await opener.page()
        for host in ("127.0.0.1", "localhost", canaries.address, "169.254.169.254", "[::1]", "0.0.0.0"):
            await page.evaluate(LOADS, f"http://{host}:{canaries.tcp_port}/")
        assert canaries.look() == []
        assert {"127.0.0.1", "localhost", "169.254.169.254", "[::1]"} <= net.hosts()

    async def test_n22_names_are_looked_up_by_the_gateway_alone(self, opener: Opener, net: SmallNet) -> None:
        net.pages["/hints"] = "<link rel=dns-prefetch href=//hint.test><link rel=preconnect href=http://hint.test>hi"
        page = await opener.page(url="http://one.test/hints")
        assert await page.evaluate(LOADS, "http://nowhere.test:81/") == "answered"
        assert "nowhere.test" in net.hosts()

    async def test_n22_peer_connections_find_no_way(self, opener: Opener, canaries: Canaries) -> None:
        page = await opener.page()
        found = await page.evaluate(GATHER, f"stun:{canaries.address}:{canaries.udp_port}")
        assert [one for one in found if " udp " in one.lower()] == []
        assert canaries.look() == []

    async def test_n22_what_belongs_to_no_context_reaches_nothing(
        self, opener: Opener, net: SmallNet, canaries: Canaries
    ) -> None:
        live = await opener.open()
        other = await live.browser.new_context()
        page = await other.new_page()
        with pytest.raises(Error, match="ERR_PROXY_CONNECTION_FAILED"):
            await page.goto(f"http://127.0.0.1:{canaries.tcp_port}/")
        await other.close()
        assert (net.asked, canaries.look()) == ([], [])

    async def test_a_closed_context_has_no_way_out(self, opener: Opener, net: SmallNet) -> None:
        live = await opener.open()
        keeps_it = await opener.open()
        way = live._way  # type: ignore[attr-defined]
        await live.close()
        page = await opener.page(keeps_it)
        net.asked.clear()
        other = await live.browser.new_context(proxy={"server": f"http://127.0.0.1:{way.port}"})
        with pytest.raises(Error, match="ERR_PROXY_CONNECTION_FAILED"):
            await (await other.new_page()).goto("http://one.test/")
        await other.close()
        assert net.asked == [] and not page.is_closed()


class Ends:
    async def test_a_page_that_crashes_leaves_its_context_usable(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        crashed = asyncio.Event()
        page.on("crash", lambda _: crashed.set())
        session = await live.context.new_cdp_session(page)
        asking = asyncio.ensure_future(session.send("Page.crash"))
        with anyio.fail_after(PATIENCE_S):
            await crashed.wait()
        asking.cancel()
        assert (await (await opener.page(live)).title()) == ""

    async def test_a_renderer_that_is_killed_crashes_its_page_alone(self, opener: Opener) -> None:
        live = await opener.open("sp_killed")
        page = await opener.page(live)
        crashed = asyncio.Event()
        page.on("crash", lambda _: crashed.set())
        for pid in chromium_of(live, "renderer"):
            os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(PATIENCE_S):
            await crashed.wait()
        await opener.page(live)

    async def test_a_browser_that_is_killed_says_so_and_another_starts(self, opener: Opener) -> None:
        live = await opener.open("sp_killed")
        beside = await opener.open("sp_killed")
        page = await opener.page(live)
        (pid,) = chromium_of(live)
        os.kill(pid, signal.SIGKILL)
        assert "crashed" in await reason_of(live)
        assert "crashed" in await reason_of(beside)
        await eventually(page.is_closed)
        # Playwright may answer what is under way with nothing at all; it fails from then on.
        with suppress(Error), anyio.fail_after(PATIENCE_S):
            await page.title()
        with pytest.raises(Error), anyio.fail_after(PATIENCE_S):
            await page.title()
        with anyio.fail_after(PATIENCE_S):
            await live.close()
        await opener.page(await opener.open("sp_killed"))

    async def test_whatever_it_runs_in_may_go_as_well(self, opener: Opener) -> None:
        live = await opener.open("sp_gone")
        await opener.page(live)
        pids = below(root_of(live))
        end_place(live)
        assert await reason_of(live)
        await eventually(lambda: not any(alive(pid) for pid in pids))
        await opener.page(await opener.open("sp_gone"))

    async def test_playwrights_own_driver_may_go_as_well(self, opener: Opener) -> None:
        live = await opener.open("sp_driver")
        page = await opener.page(live)
        for pid in below(os.getpid()):
            if is_playwrights(pid):
                os.kill(pid, signal.SIGKILL)
        assert "Playwright" in await reason_of(live)
        with pytest.raises(Exception, match="closed"), anyio.fail_after(PATIENCE_S):
            await page.title()
        with anyio.fail_after(PATIENCE_S):
            await live.close()
        await opener.page(await opener.open("sp_driver"))


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


class Contract(Contexts, WaysOut, Ends, Sizes, Keeping, Pool):
    pass


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
