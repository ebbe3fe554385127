"""The ways out of a browser, whichever driver runs it."""

from __future__ import annotations

import pytest
from playwright.async_api import Error

from tests.browser.rigs import Opener
from tests.browser.small_net import Canaries, SmallNet

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
