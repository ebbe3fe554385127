"""A secret that a policy asks about or denies at the gateway, and what a person answers (L22)."""

from __future__ import annotations

import json

import pytest

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.policy import policy_from
from tests.security.secret_scene import HOST, ORIGIN, REFERENCE, Scene, certificate, scene, status

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


async def test_l22_a_policy_that_asks_leaves_a_question_and_a_yes_holds_for_that_origin(scene: Scene) -> None:
    await scene.put(origins=(ORIGIN, f"{ORIGIN}:8443"))
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    refused = [await scene.ask(f"Authorization: {REFERENCE}") for _ in range(2)]
    assert [status(one) for one in refused] == [403, 403]
    (pending,) = approvals.pending()
    assert f"mcp-spaces approve {pending.id}".encode() in refused[1]
    assert (pending.operation, pending.space_name) == ("network.use_secret", "work")
    assert scene.site.received == []
    await approvals.decide(pending.id, grant=True, decided_by="pr_person", run_id="run_person")
    for _ in range(3):
        assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 200
    # Another origin is another question, and so is the time after the yes has expired.
    assert status(await scene.ask(f"Authorization: {REFERENCE}", uri=f"http://{HOST}:8443/")) == 403
    scene.rig.time.now += 25 * 3600
    # What the database says beside the sealed row counts for nothing.
    await scene.rig.database.write(lambda tx: tx.execute("UPDATE approvals SET expires_at = 1e12"))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403


async def test_l22_a_policy_that_denies_and_a_person_who_says_no_are_heard(scene: Scene) -> None:
    scene.policy(policy_from("standard", {"secrets": {"use": "deny"}}))
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert b"secrets.use" in answer
    assert scene.reasons() == ["policy"]
    scene.policy(policy_from("standard", {"operations": {"network.use_secret": "deny"}}))
    assert b"operations.network.use_secret" in await scene.ask(f"Authorization: {REFERENCE}")
    assert scene.site.received == []
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    await scene.ask(f"Authorization: {REFERENCE}")
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    await approvals.decide(approvals.pending()[0].id, grant=False, decided_by="pr_person", run_id="run_person")
    assert b"said no" in await scene.ask(f"Authorization: {REFERENCE}")
    # The no was heard; what is asked again is asked anew, and waits again.
    assert [b"mcp-spaces approve" in await scene.ask(f"Authorization: {REFERENCE}") for _ in range(2)] == [True, True]
    assert scene.site.received == []
    assert await scene.rig.vault.last_use("prod/api") is None


async def test_l22_an_answer_that_was_used_up_counts_as_a_yes_only_where_it_says_so(scene: Scene) -> None:
    """Rows of before kept no answer: a no that was heard then looks like a yes that was used."""
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    await scene.ask(f"Authorization: {REFERENCE}")
    approvals, database = Approvals(scene.rig.database, scene.rig.time.clock), scene.rig.database
    (asked,) = approvals.pending()
    row = json.loads(asked.model_dump_json()) | {"state": "consumed", "decided_by": "pr_person"}
    del row["answer"]
    body = json.dumps(row)
    mac = database.sealer.seal_row("approvals", asked.id, body)
    await database.write(lambda tx: tx.execute("UPDATE approvals SET state='consumed', body=?, mac=?", (body, mac)))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert scene.site.received == []
