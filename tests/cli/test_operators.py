"""The operator's commands: from somewhere else, with a key; what they name, and what they insist on."""

from __future__ import annotations

import os
import pty
import shlex
from pathlib import Path

import anyio
import pytest
import typer

from mcp_spaces.cli.main import EXAMPLES, app
from mcp_spaces.errors import ApprovalNeeded
from tests.cli.commands import MAIN, ROOT, environment, run
from tests.cli.served import served

pytestmark = pytest.mark.anyio


async def test_an_operators_key_approves_what_the_agent_asks_for() -> None:
    async with served() as house:
        await house.world.space("work")
        await house.world.launched("work")
        with pytest.raises(ApprovalNeeded) as asked:
            await house.world.call("sandbox.shell", space="work", command="git push")
        key = (await house.run("key", "create", "laptop", "--operator")).stdout.strip()
        decided = await house.run("--server", house.url, "approve", asked.value.approval_id, MCP_SPACES_KEY=key)
    assert (decided.code, decided.stderr) == (0, "")
    assert decided.stdout == f"approval {asked.value.approval_id} is approved\n"


async def test_runs_name_principals_and_spaces() -> None:
    async with served() as house:
        await house.world.space("work")
        await house.world.call("space.get", space="work")
        header, *rows = (await house.run("runs")).stdout.splitlines()
        told = (await house.run("run", "list", "--operation", "space.get", "--json")).json()["runs"]
        own = await house.world.call("run.list")
    assert header.split()[3:5] == ["space", "principal"]
    (row,) = [line.split() for line in rows if "space.get" in line]
    assert row[3:5] == ["work", "local-agent"]
    assert told[0]["principal"].startswith("pr_") and told[0]["space"].startswith("sp_")
    # Agents know their own name; it would be in every line that their models read.
    assert {one.principal_name for one in own.runs} == {None}


async def test_an_agents_key_is_told_what_key_an_operators_command_needs() -> None:
    async with served() as house:
        await house.world.space("work")
        key = (await house.run("key", "create", "agent")).stdout.strip()
        ended = await house.run("--server", house.url, "approve", MCP_SPACES_KEY=key)
    assert ended.code == 1
    assert "No operation 'approval.list'." in ended.stderr and "--operator" in ended.stderr


async def test_what_is_deleted_is_named() -> None:
    async with served() as house:
        await house.world.space("work")
        unnamed = await house.run("space", "delete")
        assert (unnamed.code, [one.name for one in (await house.world.call("space.list")).spaces]) == (2, ["work"])
        ours, theirs = pty.openpty()
        os.write(ours, b"n\n")
        asked = await anyio.run_process(
            [*MAIN, "space", "delete", "work", "--force"],
            stdin=theirs,
            check=False,
            env=environment(house.world.folder / "state"),
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(ours)
        os.close(theirs)
        assert [one.name for one in (await house.world.call("space.list")).spaces] == ["work"]
    assert "Delete space work for good?" in asked.stderr.decode()


async def test_an_operator_is_not_sent_to_approve_a_call_of_their_own() -> None:
    async with served() as house:
        await house.world.space("work")
        await house.world.launched("work")
        asked = await house.run("sandbox", "shell", "work", "--command", "git push")
    assert asked.code == 1
    assert asked.stderr.splitlines()[1].startswith("hint: Nobody approves their own call: use `mcp-spaces connect`")


async def test_stop_with_json_is_a_document(tmp_path: Path) -> None:
    ended = await run("stop", "--json", state_dir=tmp_path)
    assert (ended.code, ended.json()) == (0, {"stopped": False, "process": None})


async def test_stop_with_a_server_elsewhere_stops_nothing_here() -> None:
    async with served() as house:
        refused = await house.run("--server", house.url, "stop", MCP_SPACES_KEY="msp_of_no_use")
        named = await house.run("stop", MCP_SPACES_SERVER=house.url)
        assert (await house.run("list")).code == 0
    assert (refused.code, named.code) == (1, 1)
    assert refused.stderr.startswith("error: Only the daemon of this machine can be stopped.")


async def test_what_runs_says_is_more_is_a_command_that_shows_it() -> None:
    async with served() as house:
        await house.world.space("work")
        for _ in range(3):
            await house.world.call("space.get", space="work")
        first = await house.run("runs", "--space", "work", "--limit", "2")
        program, *more = shlex.split(first.stderr.removeprefix("more: "))
        rest = await house.run(*more)
    assert program == "mcp-spaces"
    _, *first_rows = first.stdout.splitlines()
    _, *rest_rows = rest.stdout.splitlines()
    # Two were asked for, and two are there: the call that lists them takes no place.
    assert len(first_rows) == 2
    assert rest_rows and not {row.split()[0] for row in first_rows} & {row.split()[0] for row in rest_rows}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_written_by_hand_has_an_example_that_it_understands(name: str) -> None:
    command = typer.main.get_command(app).get_command(None, name)  # type: ignore[attr-defined]
    assert command.epilog == f"Example: {EXAMPLES[name]}"
    program, said, *words = shlex.split(EXAMPLES[name])
    assert (program, said) == ("mcp-spaces", name)
    command.make_context(name, words)
