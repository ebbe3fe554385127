"""Streams that were opened with a secret end when it is permitted no more (L22)."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.changes import Changes
from mcp_spaces.core.policy import policy_from
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.network.model import SecretAccess
from mcp_spaces.network.tls import TlsConnection
from tests.network.lab import Client
from tests.security.app import eventually
from tests.security.secret_scene import HOST, REFERENCE, STANDARD, Scene, certificate, scene, status

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


async def open_stream(scene: Scene) -> Client:
    """One that was opened with the secret, and on which nothing is said any more."""

    async def silent(connection: TlsConnection) -> None:
        await connection.receive()

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    scene.site.afterwards = silent
    client = await scene.lab.client()
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"data: one\n\n" in await client.hear(until=b"one\n\n")
    return client


async def cut_off(scene: Scene, client: Client) -> bool:
    with anyio.fail_after(2):
        assert await client.hear() == b""
    await eventually(lambda: scene.lab.records.of("closed"))
    return scene.lab.records.of("closed")[-1]["reason"] == "withdrawn"


async def test_l22_a_mount_that_is_taken_away_counts_at_once(scene: Scene) -> None:
    client = await open_stream(scene)
    await scene.lab.gateway.recheck()
    assert scene.lab.gateway.open_connections == 1
    scene.lab.rules.vault = SecretAccess(VaultGrant(), STANDARD)
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert len(scene.site.received) == 1


@pytest.mark.parametrize("verdict", ["deny", "ask"])
async def test_l22_a_policy_that_permits_a_secret_no_more_ends_what_was_opened_with_it(
    scene: Scene, verdict: str
) -> None:
    client = await open_stream(scene)
    scene.policy(policy_from("standard", {"secrets": {"use": verdict}}))
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)
    assert Approvals(scene.rig.database, scene.rig.time.clock).pending() == []


async def test_l22_a_yes_keeps_a_stream_open_until_it_expires(scene: Scene) -> None:
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    await scene.ask(f"Authorization: {REFERENCE}")
    await approvals.decide(approvals.pending()[0].id, grant=True, decided_by="pr_person", run_id="run_person")
    client = await open_stream(scene)
    await scene.lab.gateway.recheck()
    assert scene.lab.gateway.open_connections == 1
    scene.rig.time.now += 25 * 3600
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_l22_a_secret_that_is_changed_ends_what_was_opened_with_it_in_two_seconds(
    scene: Scene, change: str
) -> None:
    """Nobody announces what a person does to a vault."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(scene.lab.gateway.watch, Changes())
        client = await open_stream(scene)
        if change == "deleted":
            await scene.rig.vault.keeping.delete("prod/api", run_id="run_test")
        else:
            await scene.put()
        assert await cut_off(scene, client)
        tasks.cancel_scope.cancel()
