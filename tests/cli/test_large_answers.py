"""What is too long for a model is whole for the operator: tables, the approval screen, and files."""

# ruff: noqa: ASYNC240 - nothing else waits for these small files

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.core.approvals import PENDING_LIMIT
from mcp_spaces.errors import ApprovalNeeded
from tests.cli.commands import on_a_terminal
from tests.cli.served import Served, served

pytestmark = pytest.mark.anyio

ROWS = 100
MEBIBYTE = 1 << 20


@pytest.fixture
async def house() -> AsyncIterator[Served]:
    async with served() as opened:
        yield opened


async def test_every_table_shows_a_hundred_rows(house: Served) -> None:
    world = house.world
    long = "x" * 200
    await world.govern("space.create", name="work")
    for number in range(ROWS):
        await world.govern("storage.upload", space="work", path=f"{number:03}/{long}", content="x")
        await world.govern("key.create", label=f"{long[:95]}{number:03}", expires_in_s=60)
        await world.govern("principal.add", name=f"agent-{number:03}")
        await world.govern(
            "vault.set", path=f"{long[:60]}/{long[:60]}/{number:03}", kind="value", value="a-secret-value"
        )
    for number in range(ROWS - 1):
        await world.govern("space.create", name=f"space-{number:03}")
    shown = {
        "list": await house.run("list"),
        "runs": await house.run("runs", "--limit", "100"),
        "keys": await house.run("key", "list"),
        "principals": await house.run("principal", "list"),
        "secrets": await house.run("vault", "list", "--limit", "100"),
        "files": await house.run("storage", "browse", "work", "--limit", "100"),
        "records": await house.run("audit", "list", "--limit", "100"),
    }
    assert {name: ended.stderr for name, ended in shown.items() if ended.code} == {}
    rows = {name: len(ended.stdout.splitlines()) - 1 for name, ended in shown.items()}
    assert {name: count for name, count in rows.items() if count < ROWS - 1} == {}
    assert not any("left out" in ended.stdout for ended in shown.values())


async def test_the_approval_screen_shows_whatever_agents_ask_for(house: Served) -> None:
    world = house.world
    await world.space("work")
    await world.launched("work")
    for number in range(PENDING_LIMIT):
        with pytest.raises(ApprovalNeeded):
            await world.call("sandbox.shell", space="work", command=f"git push origin {number:03}{'x' * 1000}")
    screen = await house.run("approve")
    assert screen.code == 0, screen.stderr
    assert [number for number in range(PENDING_LIMIT) if f"origin {number:03}x" not in screen.stdout] == []


async def test_an_agents_key_gets_tables_too(house: Served) -> None:
    world = house.world
    made = await world.govern("key.create", label="ci")
    await world.space("work")
    for number in range(ROWS):
        await world.call("storage.upload", space="work", path=f"{number:03}/{'x' * 200}", content="x")
    browse = ("storage", "browse", "work", "--limit", "100")
    ended = await house.run("--server", house.url, *browse, MCP_SPACES_KEY=made.token)
    assert ended.code == 0, ended.stderr
    assert "cut: the whole answer has" in ended.stderr
    assert len(ended.stdout.splitlines()) > 10


@pytest.mark.parametrize("key", ["the operator's", "an agent's"])
async def test_a_file_is_fetched_whole_and_to_the_byte(house: Served, key: str, tmp_path: Path) -> None:
    world, content = house.world, os.urandom(3 * MEBIBYTE if key == "the operator's" else 40_000)
    space = await world.space("work")
    await world.launched(space)

    await world.call(
        "storage.upload", space=space, path="a.bin", content=base64.b64encode(content).decode(), encoding="base64"
    )
    made = await world.govern("key.create", label="ci")
    remote = () if key == "the operator's" else ("--server", house.url)
    file = tmp_path / "fetched.bin"
    ended = await house.run(
        *remote, "storage", "read", "work", "--path", "a.bin", "-o", str(file), "--json", MCP_SPACES_KEY=made.token
    )
    assert ended.code == 0, ended.stderr
    assert ended.json() == {"path": str(file), "size_bytes": len(content)}
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert [one.name for one in tmp_path.iterdir()] == ["fetched.bin"]


async def test_a_file_of_a_sandbox_is_fetched_whole(house: Served, tmp_path: Path) -> None:
    world, content = house.world, os.urandom(40_000)
    await world.space("work")
    await world.launched("work")
    written = base64.b64encode(content).decode()
    await world.call("sandbox.write_file", space="work", path="a.bin", content=written, encoding="base64")
    file = tmp_path / "fetched.bin"
    ended = await house.run("sandbox", "read-file", "work", "--path", "a.bin", "-o", str(file))
    assert (ended.code, ended.stderr) == (0, "")
    assert file.read_bytes() == content


async def test_an_export_is_a_zip_on_this_machine(house: Served, tmp_path: Path) -> None:
    uploaded = await house.world.outcome("space.create", name="work", labels={"note": "hello"})
    file = tmp_path / "run.zip"
    ended = await house.run("run", "export", uploaded.run_id, "--output", str(file))
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"wrote {file}, ")
    with zipfile.ZipFile(file) as whole:
        assert whole.testzip() is None
        assert any(name.endswith(".json") for name in whole.namelist())


async def test_what_cannot_be_written_says_so_and_a_range_is_refused(house: Served, tmp_path: Path) -> None:
    space = await house.world.space("work")
    await house.world.call("storage.upload", space=space, path="a", content="x")
    read = ("storage", "read", "work", "--path", "a")
    nowhere = await house.run(*read, "--output", str(tmp_path / "no" / "file"))
    ranged = await house.run(*read, "--offset", "1", "--output", str(tmp_path / "file"))
    assert (nowhere.code, ranged.code) == (1, 2)
    assert "cannot be written" in nowhere.stderr
    assert list(tmp_path.iterdir()) == []


async def test_standard_output_gets_the_content_to_the_byte_unless_it_is_a_terminal(house: Served) -> None:
    space = await house.world.space("work")
    await house.world.call("storage.upload", space=space, path="a", content="one\x1b[2J")
    read = ("storage", "read", "work", "--path", "a", "--output", "-")
    ended = await house.run(*read)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "one\x1b[2J", "")
    both = await house.run(*read, "--json")
    assert both.code == 2 and "--json" in both.json()["error"]["message"]
    shown = await on_a_terminal(*read, state_dir=house.world.folder / "state")
    assert "terminal" in shown and "\x1b[2J" not in shown


async def test_a_pipe_is_written_to_and_a_link_followed_neither_is_replaced(house: Served, tmp_path: Path) -> None:
    space = await house.world.space("work")
    await house.world.call("storage.upload", space=space, path="a", content="x")
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    os.mkfifo(pipe)
    link.symlink_to(real)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for to in (pipe, link):
            ended = await house.run("storage", "read", "work", "--path", "a", "--output", str(to))
            assert (ended.code, ended.stderr) == (0, "")
        assert pipe.is_fifo() and os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
    assert link.is_symlink() and real.read_bytes() == b"x"
