"""Which server gets a secret (L22): one that proves who it is, by TLS, at the origin that the secret is bound to."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import InvalidInput
from mcp_spaces.network.model import Reason, Refused, Target
from mcp_spaces.network.tls import Trust
from tests.network.lab import allowing, pair
from tests.security.secret_scene import CANARY, HOST, ORIGIN, REFERENCE, Scene, Site, certificate, scene, status

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


async def test_without_a_reference_a_server_whose_plain_port_alone_is_listed_is_asked_plainly(scene: Scene) -> None:
    scene.lab.rules.now = allowing(f"{HOST}:80")
    assert status(await scene.ask()) == 200
    assert scene.lab.internet.dialled == [("127.0.0.1", 5080)]
    assert b"not_listed" in await scene.ask(f"Authorization: {REFERENCE}")
    assert scene.lab.internet.dialled == [("127.0.0.1", 5080)]


async def test_l22_a_server_that_does_not_prove_who_it_is_gets_no_secret(scene: Scene) -> None:
    await scene.put(origins=(ORIGIN, "https://other.test"))
    answer = await scene.ask(f"Authorization: {REFERENCE}", uri="http://other.test/")
    assert status(answer) == 502
    assert scene.reasons() == ["bad_certificate"]
    assert scene.site.received == []
    assert await scene.rig.vault.last_use("prod/api") is None


async def test_l22_the_operators_authority_counts_for_private_hosts_alone(certificate: Path) -> None:
    trust = Trust(certificate)
    for private, proven in ((True, True), (False, False)):
        ours, theirs = await pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Site(certificate).serve, theirs)
            try:
                await trust.connect(ours, Target(HOST, 443), private=private)
            except Exception:
                assert not proven
            else:
                assert proven
            tasks.cancel_scope.cancel()
        for end in (ours, theirs):
            end.close()


async def test_n16_a_server_that_never_ends_its_handshake_is_given_up() -> None:
    ours, theirs = await pair()
    with anyio.fail_after(20), pytest.raises(Refused) as refusal:
        await Trust(handshake_s=0.05).connect(ours, Target(HOST, 443), private=False)
    assert refusal.value.reason is Reason.TOO_SLOW
    theirs.close()


def test_an_operators_file_without_certificates_is_told_at_the_start(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        if content is not None:
            (tmp_path / "own.pem").write_text(content)
        with pytest.raises(InvalidInput, match="network_authorities"):
            Trust(tmp_path / "own.pem")


async def test_requests_to_a_bound_origin_go_over_tls_also_without_a_secret_and_redirects_stay_here(
    scene: Scene,
) -> None:
    """git asks without credentials first, and a client that is sent on to https would take its reference there."""
    scene.site.answer = lambda _: f"HTTP/1.1 301 Moved\r\nLocation: {ORIGIN}/new\r\nContent-Length: 0\r\n\r\n".encode()
    answer = await scene.ask(uri=f"http://{HOST}/old")
    assert scene.lab.internet.dialled == [("127.0.0.1", 5443)]
    assert f"Location: http://{HOST}/new\r\n".encode() in answer
    scene.site.answer = lambda _: (
        f"HTTP/1.1 301 Moved\r\nLocation: {ORIGIN}.evil/\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert f"Location: {ORIGIN}.evil/\r\n".encode() in await scene.ask()


async def test_a_secret_bound_to_one_other_port_is_used_there(scene: Scene) -> None:
    await scene.put(origins=(f"{ORIGIN}:8443",))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 200
    assert scene.lab.internet.dialled == [("127.0.0.1", 5444)]
    assert f"Host: {HOST}:8443\r\n".encode() in scene.sent


async def test_a_reference_works_in_a_plain_tunnel_too(scene: Scene) -> None:
    """Some clients send plain requests by CONNECT."""
    client = await scene.lab.tunnel(f"{HOST}:80")
    await client.say(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert status(await client.hear()) == 200
    assert CANARY.encode() in scene.sent
