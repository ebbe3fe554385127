"""Streams that were opened with a secret end when it is permitted no more (L22)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.approvals import LIFETIME_S, Approvals
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.policy import policy_from
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import SecretAccess
from mcp_spaces.network.tls import TlsConnection
from tests.network.lab import PATIENCE_S, Client
from tests.security.app import eventually
from tests.security.secret_scene import HOST, REFERENCE, STANDARD, Scene, certificate, staged, status

pytestmark = pytest.mark.anyio

__all__ = ["certificate"]


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
async def scene(tmp_path: Path, certificate: Path, changes: Changes) -> AsyncIterator[Scene]:
    """With a gateway that hears of every change, and a vault that tells of its own: nothing else ends a stream."""
    async with staged(tmp_path, certificate) as scene, anyio.create_task_group() as tasks:
        scene.rig.vault.on_changed.append(lambda: changes.announce(Change("secrets")))
        await tasks.start(scene.lab.gateway.watch, changes)
        yield scene
        tasks.cancel_scope.cancel()


async def open_stream(scene: Scene) -> Client:
    """One that was opened with the secret, and on which nothing is said any more."""

    async def silent(connection: TlsConnection) -> None:
        await connection.receive()

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    scene.site.afterwards = scene.site.afterwards or silent
    client = await scene.lab.client()
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"data: one\n\n" in await client.hear(until=b"one\n\n")
    return client


async def stays(scene: Scene) -> bool:
    await scene.lab.gateway.recheck()
    return scene.lab.gateway.open_connections == 1


async def cut_off(scene: Scene, client: Client) -> bool:
    assert await client.hear() == b""
    await eventually(lambda: scene.lab.records.of("closed"))
    return scene.lab.records.of("closed")[-1]["reason"] == "withdrawn"


async def said_yes(scene: Scene) -> None:
    """A person, to the use that is asked for."""
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    await scene.ask(f"Authorization: {REFERENCE}")
    await approvals.decide(approvals.pending()[0].id, grant=True, decided_by="pr_person", run_id="run_person")


async def test_l22_a_mount_that_is_taken_away_counts_at_once(scene: Scene, changes: Changes) -> None:
    client = await open_stream(scene)
    assert await stays(scene)
    scene.lab.rules.vault = SecretAccess(VaultGrant(), STANDARD)
    changes.announce(Change("context"))
    assert await cut_off(scene, client)
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert len(scene.site.received) == 1


@pytest.mark.parametrize("verdict", ["deny", "ask"])
async def test_l22_a_policy_that_permits_a_secret_no_more_ends_what_was_opened_with_it(
    scene: Scene, changes: Changes, verdict: str
) -> None:
    client = await open_stream(scene)
    scene.policy(policy_from("standard", {"secrets": {"use": verdict}}))
    changes.announce(Change("context"))
    assert await cut_off(scene, client)
    assert Approvals(scene.rig.database, scene.rig.time.clock).pending() == []


@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_l22_a_secret_that_is_changed_ends_at_once_what_was_opened_with_it(scene: Scene, change: str) -> None:
    client = await open_stream(scene)
    await scene.put("prod/another")
    assert await stays(scene)
    if change == "deleted":
        await scene.rig.vault.keeping.delete("prod/api", run_id="run_test")
    else:
        await scene.put()
    assert await cut_off(scene, client)


async def test_l22_a_yes_ends_what_was_opened_with_it_when_it_expires_without_a_word_from_anybody(
    scene: Scene,
) -> None:
    begun = scene.rig.time.now
    await said_yes(scene)
    client = await open_stream(scene)
    assert await stays(scene)
    scene.rig.time.now = begun + LIFETIME_S - 0.2
    # From here on that is the time that is left, and nothing more is announced.
    assert await stays(scene)
    assert await cut_off(scene, client)


async def test_l22_where_a_clock_jumped_over_the_end_of_a_yes_the_next_bytes_end_the_stream(scene: Scene) -> None:
    jumped = anyio.Event()

    async def two_more(connection: TlsConnection) -> None:
        await jumped.wait()
        for _ in range(2):
            await connection.send(b"data: more\n\n")
            await connection.receive()

    scene.site.afterwards = two_more
    await said_yes(scene)
    client = await open_stream(scene)
    scene.rig.time.now += LIFETIME_S
    jumped.set()
    assert (await client.hear()).count(b"data: more") <= 1
    assert await cut_off(scene, client)


async def test_l22_what_is_changed_while_the_server_is_reached_gets_no_secret(
    tmp_path: Path, certificate: Path
) -> None:
    """Also where the gateway heard of the change before the request was among those that it ends."""
    async with staged(tmp_path, certificate) as scene:

        async def late(connection: Upstream) -> None:
            await scene.put(headers=("x-other",))
            await scene.site.serve(connection)

        scene.lab.internet.servers["127.0.0.1", 5443] = late
        with anyio.fail_after(PATIENCE_S):
            await scene.ask(f"Authorization: {REFERENCE}")
        assert scene.site.received == []
        assert [one["reason"] for one in scene.lab.records.of("closed")] == ["withdrawn"]
