"""An operator and agents that change all they can, and note what was acknowledged, until the daemon goes."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from tests.security.app import LITTLE
from tests.security.kills.ledger import Fact, Ledger
from tests.security.lines import DaemonGoneError, Line, line_to

CLIENTS = 3
SPACES = 4


async def work_as_agent(line: Line, ledger: Ledger, number: int) -> None:
    """Until the daemon goes. Each client has spaces of its own."""
    rng = ledger.rng
    while True:
        mine = sorted(await spaces_of(line, number))
        gone = [one for one in mine if one in ledger.labels and ledger.labels[one].known is None]
        assert not gone, f"deleted spaces are back: {gone}"
        action = rng.choice(
            ("create", "upload", "upload", "upload", "delete", "label", "launch", "write", "ask", "drop")
        )
        if action == "create" or not mine:
            if len(mine) < SPACES:
                await create_space(line, ledger, number)
            continue
        space = rng.choice(mine)
        match action:
            case "upload":
                await upload(line, ledger, space)
            case "delete":
                await delete_file(line, ledger, space)
            case "label":
                await label(line, ledger, space)
            case "launch" | "write":
                await write_in_sandbox(line, ledger, space)
            case "ask":
                await ask(line, ledger, space)
            case "drop" if rng.random() < 0.3:
                await delete_space(line, ledger, space)
            case _:
                pass


async def spaces_of(line: Line, number: int) -> list[str]:
    said = await line.call("space.list", limit=200)
    return [one["id"] for one in said.content["spaces"] if one["name"].startswith(f"client-{number}-")]


async def create_space(line: Line, ledger: Ledger, number: int) -> None:
    name = f"client-{number}-{ledger.rng.getrandbits(40):x}"
    said = await line.call("space.create", name=name, labels={"n": "0"})
    assert said.code is None
    ledger.note(said)
    ledger.labels[said.content["id"]] = Fact("0")


async def delete_space(line: Line, ledger: Ledger, space: str) -> None:
    fact = ledger.labels.setdefault(space, Fact("0"))
    fact.changing(None)
    for (owner, _), file in ledger.files.items():
        if owner == space:
            file.changing(None)
    for (runtime, _), file in ledger.written.items():
        # A kill in the middle of a delete may leave the runtime's row without its files.
        if ledger.homes[runtime] == space:
            file.changing(None)
    said = await line.call("space.delete", space=space, force=True)
    assert said.code is None, said
    ledger.note(said)
    fact.changed()
    for key in [key for key in ledger.files if key[0] == space]:
        del ledger.files[key]


async def upload(line: Line, ledger: Ledger, space: str) -> None:
    path = f"folder/{ledger.rng.randrange(4)}.txt"
    content = f"{ledger.rng.getrandbits(64):x}" * ledger.rng.choice((1, 10, 5000))
    fact = ledger.files.setdefault((space, path), Fact())
    fact.changing(hashlib.sha256(content.encode()).hexdigest())
    said = await line.call("storage.upload", space=space, path=path, content=content, overwrite=True)
    assert said.code is None, said
    ledger.note(said)
    fact.changed()


async def delete_file(line: Line, ledger: Ledger, space: str) -> None:
    path = f"folder/{ledger.rng.randrange(4)}.txt"
    fact = ledger.files.setdefault((space, path), Fact())
    fact.changing(None)
    said = await line.call("storage.delete", space=space, path=path)
    assert said.code in (None, "not_found"), said
    fact.changed()


async def label(line: Line, ledger: Ledger, space: str) -> None:
    fact = ledger.labels.setdefault(space, Fact("0"))
    fact.changing(f"{ledger.rng.getrandbits(40):x}")
    said = await line.call("space.update", space=space, patch={"labels": {"n": fact.coming}})
    assert said.code is None, said
    ledger.note(said)
    fact.changed()


async def write_in_sandbox(line: Line, ledger: Ledger, space: str) -> None:
    launched = await line.call("sandbox.launch", space=space, alias="main", scope={"limits": LITTLE})
    if launched.code == "wrong_state":
        # A delete that was killed in its middle leaves a stopped space.
        ledger.note(await line.call("space.up", space=space))
        return
    if launched.code not in (None, "conflict"):
        # What a launch may be refused for here: the engine's or the space's limits, never a fault of ours.
        assert launched.code in ("quota", "runtime_unavailable"), launched
        return
    listed = await line.call("sandbox.list", space=space)
    runtime = listed.content["sandboxes"][0]["id"]
    content = f"{ledger.rng.getrandbits(64):x}"
    ledger.homes[runtime] = space
    fact = ledger.written.setdefault((runtime, "kept.txt"), Fact())
    fact.changing(content)
    said = await line.call("sandbox.write_file", space=space, path="kept.txt", content=content)
    if said.code is None:
        ledger.note(said)
        ledger.writes += 1
        fact.changed()
    if ledger.rng.random() < 0.3:
        ledger.note(await line.call("sandbox.stop", space=space))


async def ask(line: Line, ledger: Ledger, space: str) -> None:
    said = await line.call("sandbox.shell", space=space, command=f"git push origin {ledger.rng.getrandbits(40):x}")
    if said.code == "approval_needed":
        ledger.acknowledged += 1
        ledger.approvals[said.details["approval_id"]] = Fact("pending")
    else:
        assert said.code in ("not_found", "wrong_state", "quota", "runtime_unavailable"), said


async def work_as_operator(line: Line, ledger: Ledger) -> None:
    while True:
        pending = [one for one, fact in ledger.approvals.items() if fact.settled and fact.known == "pending"]
        if pending and ledger.rng.random() < 0.5:
            grant = ledger.rng.random() < 0.5
            fact = ledger.approvals[pending[0]]
            fact.changing("approved" if grant else "denied")
            said = await line.call("approval.grant" if grant else "approval.deny", approval=pending[0])
            assert said.code is None, said
            ledger.note(said)
            fact.changed()
        elif ledger.keys and ledger.rng.random() < 0.3:
            token = next(iter(ledger.keys))
            fact = ledger.keys.pop(token)
            fact.changing(False)
            ledger.keys[token] = fact
            said = await line.call("key.revoke", key=f"key_{token.split('_')[1]}")
            assert said.code is None, said
            ledger.note(said)
            fact.changed()
        elif len(ledger.keys) < 8:
            said = await line.call("key.create", label="one")
            ledger.note(said)
            ledger.keys[said.content["token"]] = Fact(True)
        else:
            ledger.note(await line.call("principal.list"))


async def work(state: Path, ledger: Ledger, number: int | None) -> None:
    with suppress(DaemonGoneError):
        async with line_to(state, operator=number is None) as line:
            if number is None:
                await work_as_operator(line, ledger)
            else:
                await work_as_agent(line, ledger, number)
