"""The list of what was asked: an answer is given once, in time, by another, and stands in the audit chain."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_spaces.core.approvals import LIFETIME_S, SHOWN_CHARACTERS, Approval, Approvals, ApprovalState, shown
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import NotFound, WrongState
from tests.core.bench import Bench, open_bench

pytestmark = pytest.mark.anyio


@dataclass
class Asked:
    """An empty list, and a clock that stands still."""

    bench: Bench
    approvals: Approvals
    now: list[float]

    async def ask(self, fingerprint: str = "f", *, space_id: str | None = "sp_1") -> Approval:
        return await self.approvals.settle(
            self.approvals.request(
                fingerprint=fingerprint,
                operation="thing.shell",
                principal_id="pr_agent",
                principal_name="agent",
                space_id=space_id,
                space_name="work",
                run_id="run_1",
                reason="It pushes.",
                rule="shell.git_push",
                input_json="{}",
            )
        )

    async def answer(self, approval_id: str, *, grant: bool = True, by: str = "pr_operator") -> Approval:
        return await self.approvals.decide(approval_id, grant=grant, decided_by=by, run_id="run_2")


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    now = [1_800_000_000.0]
    async with open_bench(tmp_path) as bench:
        yield Asked(bench, Approvals(bench.database, Clock(now=lambda: now[0])), now)


async def test_an_approval_is_decided_once_and_its_answer_is_in_the_audit_chain(asked: Asked) -> None:
    wanted = await asked.ask()
    assert (await asked.answer(wanted.id)).state is ApprovalState.APPROVED
    for grant in (True, False):
        with pytest.raises(WrongState, match="approved") as refused:
            await asked.answer(wanted.id, grant=grant)
        assert "repeats its call" in refused.value.hint
    (row,) = asked.bench.database.read("SELECT run_id, body FROM audit WHERE kind = 'approval'")
    assert row["run_id"] == "run_2"
    assert json.loads(row["body"]) == {"approval": wanted.id, "answer": "approved", "decided_by": "pr_operator"}


async def test_what_nobody_asked_for_cannot_be_approved(asked: Asked) -> None:
    with pytest.raises(NotFound):
        await asked.answer("ap_absent")


async def test_t17_the_one_who_asks_can_neither_grant_nor_deny(asked: Asked) -> None:
    wanted = await asked.ask()
    for grant in (True, False):
        with pytest.raises(WrongState, match="their own"):
            await asked.answer(wanted.id, grant=grant, by="pr_agent")
    assert [one.state for one in asked.approvals.pending()] == [ApprovalState.PENDING]


async def test_what_waited_for_a_day_is_over_and_is_asked_anew(asked: Asked) -> None:
    wanted = await asked.ask()
    asked.now[0] += LIFETIME_S - 1
    assert (await asked.ask()).id == wanted.id
    asked.now[0] += 1
    assert asked.approvals.pending() == []
    with pytest.raises(WrongState, match="expired"):
        await asked.answer(wanted.id)
    assert (await asked.ask()).id != wanted.id


async def test_t16_a_yes_is_used_up_within_its_day_or_not_at_all(asked: Asked) -> None:
    for wait_s, state in ((LIFETIME_S - 1, ApprovalState.CONSUMED), (LIFETIME_S, ApprovalState.PENDING)):
        await asked.answer((await asked.ask()).id)
        asked.now[0] += wait_s
        assert (await asked.ask()).state is state


async def test_that_an_answer_was_used_is_in_the_audit_chain_with_the_run_that_used_it(asked: Asked) -> None:
    for grant, answer in ((True, "approved"), (False, "denied")):
        wanted = await asked.ask()
        await asked.answer(wanted.id, grant=grant)
        await asked.ask()
        row = asked.bench.database.read("SELECT run_id, body FROM audit WHERE kind = 'approval_used'")[-1]
        assert row["run_id"] == "run_1"
        assert json.loads(row["body"]) == {"approval": wanted.id, "answer": answer, "decided_by": "pr_operator"}


async def test_what_is_pending_is_listed_of_one_space_or_of_all(asked: Asked) -> None:
    wanted = [await asked.ask(str(space_id), space_id=space_id) for space_id in ("sp_1", "sp_2", None)]
    assert asked.approvals.pending(space_id="sp_3") == []
    assert asked.approvals.pending(space_id="sp_2") == wanted[1:2]
    assert asked.approvals.pending() == wanted


async def test_only_a_yes_that_was_used_holds_and_only_for_its_day(asked: Asked) -> None:
    assert asked.approvals.held_until("f") is None
    wanted = await asked.ask()
    await asked.answer(wanted.id)
    assert asked.approvals.held_until("f") is None
    await asked.ask()
    assert asked.approvals.held_until("f") == asked.now[0] + LIFETIME_S
    assert asked.approvals.held_until("g") is None
    asked.now[0] += LIFETIME_S
    assert asked.approvals.held_until("f") is None


async def test_a_no_that_was_heard_holds_nothing(asked: Asked) -> None:
    await asked.answer((await asked.ask()).id, grant=False)
    assert (await asked.ask()).state is ApprovalState.DENIED
    assert asked.approvals.held_until("f") is None


def test_t18_a_text_is_shown_whole_up_to_its_limit() -> None:
    whole = "x" * SHOWN_CHARACTERS
    assert shown(whole) == whole
    cut = shown(whole + "y")
    assert cut.startswith("xxx") and cut.endswith("xy") and "1 characters are not shown" in cut
