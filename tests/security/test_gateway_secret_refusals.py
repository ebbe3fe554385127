"""Secrets that the gateway does not use, and whose yes does not hold (L22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_spaces.core.approvals import PENDING_LIMIT, Approvals
from mcp_spaces.core.policy import policy_from
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.vault.model import Bindings, Kind
from mcp_spaces.vault.wanted import wanted_entry
from tests.network.lab import RUNTIME
from tests.security.secret_scene import HOST, ORIGIN, REFERENCE, Scene, certificate, scene, staged, status
from tests.vault.rig import SEED_80_BITS

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]

ASKING = policy_from("standard", {"secrets": {"use": "ask"}})


async def test_l22_a_vault_that_does_not_open_gives_no_secret_and_holds_up_no_other_request(
    tmp_path: Path, certificate: Path
) -> None:
    async with staged(tmp_path, certificate):
        pass
    (tmp_path / "master.key").unlink()
    async with staged(tmp_path, certificate, stored=False) as scene:
        answer = await scene.ask(f"Authorization: {REFERENCE}")
        assert status(answer) == 503
        assert scene.reasons() == ["vault_closed"]
        assert scene.lab.internet.dialled == []
        assert status(await scene.ask()) == 200
        assert scene.lab.internet.dialled == [("127.0.0.1", 5080)]


async def test_l22_a_one_time_seed_is_refused_before_anything_is_dialled(scene: Scene) -> None:
    fields = {"username": "ann", "password": "correct horse", "totp": SEED_80_BITS}
    wanted = wanted_entry("prod/login", Kind.LOGIN, fields, label=None, bindings=Bindings(origins=(ORIGIN,)), now=1.0)
    await scene.rig.vault.keeping.put([wanted], run_id="run_test", action="set")
    assert status(await scene.ask("Authorization: {{vault:prod/login#totp}}")) == 403
    assert scene.reasons() == ["no_such_secret"]
    assert scene.lab.internet.dialled == []


@pytest.mark.parametrize(("characters", "sent"), [(MINIMUM_LENGTH, True), (MINIMUM_LENGTH - 1, False)])
async def test_l22_the_shortest_secret_that_is_used_is_the_shortest_that_is_found_again(
    scene: Scene, characters: int, sent: bool
) -> None:
    value = "Zq7-%w"[:characters]
    wanted = wanted_entry(
        "prod/api", Kind.API_KEY, {"token": value}, label=None, bindings=Bindings(origins=(ORIGIN,)), now=1.0
    )
    await scene.rig.vault.keeping.put([wanted], run_id="run_test", action="set")
    scene.site.answer = lambda heard: b"HTTP/1.1 200 OK\r\n\r\n" + heard
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert bool(scene.site.received) == sent
    assert value.encode() not in answer


async def said_yes(scene: Scene) -> None:
    scene.policy(ASKING)
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    await approvals.decide(approvals.pending()[0].id, grant=True, decided_by="pr_person", run_id="run_person")
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 200


@pytest.mark.parametrize("other", [RuntimeRef("rt_two", "sp_one", "main"), RuntimeRef("rt_two", "sp_two", "main")])
async def test_l22_a_yes_for_one_sandbox_is_none_for_another(scene: Scene, other: RuntimeRef) -> None:
    await said_yes(scene)
    scene.lab.gateway.admit(other)
    client = await scene.lab.client(other)
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"needs_approval" in await client.hear()
    assert len(scene.site.received) == 1


async def test_l22_a_yes_for_a_secret_is_none_for_another_one_of_its_name(scene: Scene) -> None:
    await said_yes(scene)
    await scene.rig.vault.keeping.delete("prod/api", run_id="run_test")
    await scene.put()
    assert b"needs_approval" in await scene.ask(f"Authorization: {REFERENCE}")
    assert len(scene.site.received) == 1


async def test_l22_a_yes_under_one_policy_is_none_under_the_next(scene: Scene) -> None:
    await said_yes(scene)
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}, "operations": {"vault.totp": "deny"}}))
    assert b"needs_approval" in await scene.ask(f"Authorization: {REFERENCE}")
    assert len(scene.site.received) == 1


async def test_t19_a_sandbox_cannot_ask_without_end(scene: Scene) -> None:
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    for number in range(PENDING_LIMIT):
        await approvals.settle(
            approvals.request(
                fingerprint=str(number), operation="x", principal_id="pr_x", principal_name="x",
                space_id=RUNTIME.space_id, space_name="work", run_id="run_x", reason="", rule="", input_json="{}",
            )
        )  # fmt: skip
    scene.policy(ASKING)
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert status(answer) == 403
    assert b"needs_approval" in answer
    assert f"{PENDING_LIMIT} approvals are pending".encode() in answer
    assert len(approvals.pending()) == PENDING_LIMIT
    assert scene.lab.internet.dialled == []
