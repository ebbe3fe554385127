"""How a sandbox of every driver begins, ends and keeps its files."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import Conflict, InvalidInput, RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.port import Sandbox, SandboxDriver, SandboxSpec
from tests.sandbox.rigs import PATIENCE_S, SMALL, run, sandbox_of, shell, start


class Lives:
    async def test_usage_is_counted(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", bytes(1 << 20), overwrite=False)
        usage = await sandbox.usage()
        assert usage.disk_bytes >= 1 << 20
        assert usage.memory_bytes >= 0
        assert usage.pids >= 1

    async def test_files_survive_a_stop(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image) as first:
            assert first.new_workspace
            await first.write_file("kept", b"still", overwrite=False)
        async with sandbox_of(driver, image=image) as second:
            assert not second.new_workspace
            assert (await second.read_file("kept", limit=10)).content == b"still"

    async def test_a_deleted_workspace_is_gone_for_good(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image) as first:
            await first.write_file("kept", b"still", overwrite=False)
        await driver.delete_workspace("runtime")
        await driver.delete_workspace("runtime")
        async with sandbox_of(driver, image=image) as second:
            assert second.new_workspace
            assert (await second.list_files(".")).entries == ()

    async def test_runtimes_do_not_see_each_others_files(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, runtime_id="one", image=image) as one:
            await one.write_file("secret", b"", overwrite=False)
            async with sandbox_of(driver, runtime_id="two", image=image) as two:
                assert (await two.list_files(".")).entries == ()
                assert one.image_id == two.image_id

    async def test_a_runtime_is_launched_once_at_a_time(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image):
            with pytest.raises(Conflict):
                await driver.launch(SandboxSpec("runtime", image, SMALL))

    async def test_a_runtime_is_launched_again_while_it_is_being_stopped(
        self, driver: SandboxDriver, image: str
    ) -> None:
        first = await driver.launch(SandboxSpec("runtime", image, SMALL))
        async with anyio.create_task_group() as group:
            group.start_soon(first.stop)
            await anyio.lowlevel.checkpoint()
            async with sandbox_of(driver, image=image) as second:
                assert (await shell(second, "echo here")).stdout == b"here\n"

    async def test_stopping_twice_is_no_error_and_says_why_it_is_gone(self, sandbox: Sandbox) -> None:
        await sandbox.stop()
        await sandbox.stop()
        with anyio.fail_after(PATIENCE_S):
            assert await sandbox.closed()

    async def test_a_stopped_sandbox_answers_runtime_unavailable(self, sandbox: Sandbox) -> None:
        process = await start(sandbox, "sleep", "56")
        await sandbox.stop()
        with pytest.raises(RuntimeUnavailable):
            await process.wait()
        for ask in (sandbox.stat("."), sandbox.read_file("x", limit=1), sandbox.usage(), run(sandbox, "true")):
            with pytest.raises(RuntimeUnavailable):
                await ask

    async def test_reaping_frees_what_is_not_kept(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, runtime_id="kept", image=image) as kept:
            async with sandbox_of(driver, runtime_id="left", image=image) as left:
                assert "left" in await driver.reap(keep={"kept"})
                with anyio.fail_after(PATIENCE_S):
                    await left.closed()
            assert (await shell(kept, "echo here")).stdout == b"here\n"
            assert await driver.reap(keep={"kept"}) == []

    async def test_reaping_keeps_the_files_of_what_is_stopped(self, driver: SandboxDriver, image: str) -> None:
        """As at a daemon's start, when nothing runs."""
        for runtime_id in ("kept", "gone"):
            async with sandbox_of(driver, runtime_id=runtime_id, image=image) as sandbox:
                await sandbox.write_file("file", b"still", overwrite=False)
        assert list(await driver.reap(keep={"kept"})) == ["gone"]
        async with sandbox_of(driver, runtime_id="kept", image=image) as again:
            assert not again.new_workspace
            assert (await again.read_file("file", limit=10)).content == b"still"

    async def test_ids_that_are_no_names_are_refused(self, driver: SandboxDriver, image: str) -> None:
        for runtime_id in ("", "../x", "a/b", "x" * 100, "-x", "a b"):
            with pytest.raises(InvalidInput):
                await driver.launch(SandboxSpec(runtime_id, image, SMALL))

    async def test_an_unknown_image_is_an_error_that_says_what_to_do(self, driver: SandboxDriver) -> None:
        with pytest.raises(SpacesError) as caught:
            await driver.launch(SandboxSpec("runtime", "mcp-spaces-sandbox:none", SMALL))
        assert "make image" in caught.value.hint

    async def test_walls_are_told(self, driver: SandboxDriver) -> None:
        assert all(wall.name and wall.found for wall in await driver.walls())
