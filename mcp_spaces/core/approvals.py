"""A person's yes to exactly one call: pending, approved or denied, consumed once, expiring, restart-safe.

An approval is bound to the fingerprint sha256(operation, canonical input, caller, space, runtime, policy version): another
byte is another call. It is never granted by the one who asks, and never by a client's own answer (threat T17).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import encode
from mcp_spaces.errors import NotFound, QuotaExceeded, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Row, Transaction

LIFETIME_S = 24 * 3600
PENDING_LIMIT = 20
"""Pending approvals a space, so that nobody is tired out (threat T19)."""
TABLE = "approvals"
SHOWN_CHARACTERS = 4_000
TAIL_CHARACTERS = 1_000


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CONSUMED = "consumed"


class Approval(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    fingerprint: str
    state: ApprovalState
    operation: str
    principal_id: str
    principal_name: str
    space_id: str | None
    space_name: str | None
    run_id: str
    reason: str
    rule: str
    input: str
    """Canonical JSON of the input, redacted, as `shown` makes it fit for people."""
    created_at: float
    expires_at: float
    decided_by: str | None = None
    answer: Literal[ApprovalState.APPROVED, ApprovalState.DENIED] | None = None
    """What a consumed one was: approved or denied. None counts as no yes."""


def fingerprint(
    operation_id: str,
    canonical_input: str,
    *,
    principal_id: str,
    space_id: str | None,
    runtime_id: str | None,
    policy_version: str,
) -> str:
    # The ids, not only the names in the input: a yes for one runtime is none for the next one of that name.
    parts = [operation_id, canonical_input, principal_id, space_id or "", runtime_id or "", policy_version]
    return hashlib.sha256(encode(parts).encode()).hexdigest()


def shown(text: str) -> str:
    """What a person is to judge: nothing invisible, nothing that reorders, and what was cut is said (threat T18)."""
    plain = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    if len(plain) <= SHOWN_CHARACTERS:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    head, tail = plain[: SHOWN_CHARACTERS - TAIL_CHARACTERS], plain[-TAIL_CHARACTERS:]
    left_out = len(plain) - SHOWN_CHARACTERS
    return f"{head} [… {left_out:,} characters are not shown; sha256 of all: {digest} …] {tail}"


class Approvals:
    """The durable list of what was asked and what was answered."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def settle(self, wanted: Approval) -> Approval:
        """What a call that needs approval does, in one transaction: consume a yes (state CONSUMED), hear a no
        (DENIED, which is used up too), or leave one pending request (PENDING).

        Raises QuotaExceeded when too many are pending in the space.
        """
        now = self._clock.now()

        def change(tx: Transaction) -> Approval:
            rows = tx.all(
                "SELECT id, body, mac FROM approvals WHERE fingerprint = ? AND state IN (?, ?, ?) AND expires_at > ?"
                " ORDER BY rowid",
                (wanted.fingerprint, ApprovalState.APPROVED, ApprovalState.DENIED, ApprovalState.PENDING, now),
            )
            for found in self._sealed(rows, wanted.fingerprint, now=now):
                if found.state is ApprovalState.PENDING:
                    return found
                if found.state is ApprovalState.CONSUMED:
                    continue
                used = found.model_copy(update={"state": ApprovalState.CONSUMED, "answer": found.state})
                self._store(tx, used)
                body = encode({"approval": found.id, "answer": found.state, "decided_by": found.decided_by})
                tx.append_audit(at=now, kind="approval_used", run_id=wanted.run_id, body=body)
                return found if found.state is ApprovalState.DENIED else used
            (pending,) = tx.execute(
                "SELECT count(*) FROM approvals WHERE space_id IS ? AND state = ? AND expires_at > ?",
                (wanted.space_id, ApprovalState.PENDING, now),
            ).fetchone()
            if pending >= PENDING_LIMIT:
                raise QuotaExceeded(
                    f"{pending} approvals are pending in this space already.",
                    hint="Wait for a person to decide them: mcp-spaces approve",
                )
            self._store(tx, wanted)
            return wanted

        return await self._database.write(change)

    def held_until(self, wanted: str) -> float | None:
        """When a yes to this fingerprint expires that was used already, in seconds since 1970; None: there is none. Only
        for what is asked once, and may then be done until the yes expires; a call's yes is for one call."""
        now = self._clock.now()
        rows = self._database.read(
            "SELECT id, body, mac FROM approvals WHERE fingerprint = ? AND state = ? AND expires_at > ?",
            (wanted, ApprovalState.CONSUMED, now),
        )
        return max(
            (
                one.expires_at
                for one in self._sealed(rows, wanted, now=now)
                if one.state is ApprovalState.CONSUMED and one.answer is ApprovalState.APPROVED
            ),
            default=None,
        )

    async def decide(self, approval_id: str, *, grant: bool, decided_by: str, run_id: str) -> Approval:
        """A person's answer. Raises NotFound, or WrongState when it was decided, used or has expired."""
        now = self._clock.now()

        def change(tx: Transaction) -> Approval:
            row = tx.one("SELECT id, body, mac FROM approvals WHERE id = ?", (approval_id,))
            if row is None:
                raise NotFound(f"No approval {approval_id}.", hint="List what is pending: mcp-spaces approval list")
            found = unseal(self._database.sealer, TABLE, row, Approval)
            if found.state is not ApprovalState.PENDING or found.expires_at <= now:
                if found.state is ApprovalState.APPROVED and found.expires_at > now:
                    raise WrongState("This approval is approved.", hint="The agent repeats its call now, unchanged.")
                state = found.state if found.state is not ApprovalState.PENDING else "expired"
                raise WrongState(f"This approval is {state}.", hint="The agent has to ask again.")
            if found.principal_id == decided_by:
                raise WrongState("Nobody approves their own call.", hint="Another principal has to decide.")
            state = ApprovalState.APPROVED if grant else ApprovalState.DENIED
            decided = found.model_copy(update={"state": state, "decided_by": decided_by})
            self._store(tx, decided)
            body = encode({"approval": found.id, "answer": state, "decided_by": decided_by})
            tx.append_audit(at=now, kind="approval", run_id=run_id, body=body)
            return decided

        return await self._database.write(change)

    def pending(self, *, space_id: str | None = None) -> list[Approval]:
        """Oldest first; of one space or of all."""
        # Not one statement for both: an index answers what is asked of one space, and nothing is ever deleted here.
        here = "" if space_id is None else " AND space_id = ?"
        rows = self._database.read(
            f"SELECT id, body, mac FROM approvals WHERE state = ? AND expires_at > ?{here} ORDER BY rowid LIMIT 1000",  # noqa: S608 - fixed texts
            (ApprovalState.PENDING, self._clock.now(), *(() if space_id is None else (space_id,))),
        )
        return [unseal(self._database.sealer, TABLE, row, Approval) for row in rows]

    def request(
        self,
        *,
        fingerprint: str,
        operation: str,
        principal_id: str,
        principal_name: str,
        space_id: str | None,
        space_name: str | None,
        run_id: str,
        reason: str,
        rule: str,
        input_json: str,
    ) -> Approval:
        now = self._clock.now()
        return Approval(
            id=new_id("ap"),
            fingerprint=fingerprint,
            state=ApprovalState.PENDING,
            operation=operation,
            principal_id=principal_id,
            principal_name=principal_name,
            space_id=space_id,
            space_name=space_name,
            run_id=run_id,
            reason=shown(reason),
            rule=rule,
            input=shown(input_json),
            created_at=now,
            expires_at=now + LIFETIME_S,
        )

    def _sealed(self, rows: Iterable[Row], wanted: str, *, now: float) -> list[Approval]:
        """Those that are of this fingerprint and alive by what is sealed: the columns beside it are not."""
        found = [unseal(self._database.sealer, TABLE, row, Approval) for row in rows]
        return [one for one in found if one.fingerprint == wanted and one.expires_at > now]

    def _store(self, tx: Transaction, approval: Approval) -> None:
        body, mac = seal(self._database.sealer, TABLE, approval.id, approval)
        tx.execute(
            "INSERT INTO approvals (id, fingerprint, principal_id, space_id, state, expires_at, body, mac)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body, mac = excluded.mac",
            (
                approval.id,
                approval.fingerprint,
                approval.principal_id,
                approval.space_id,
                approval.state,
                approval.expires_at,
                body,
                mac,
            ),
        )
