"""Which images may be asked for, and which shell one has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.sandbox.images import BASH, SH, Images, Shell, shell_of
from mcp_spaces.sandbox.port import Command, Exit, OutputSink, Process, Sandbox
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import sandbox_of

pytestmark = pytest.mark.anyio
NAMED = Images("usual", ("one", "two"))


@pytest.mark.parametrize(("asked", "chosen"), [(None, "usual"), ("usual", "usual"), ("one", "one"), ("two", "two")])
def test_the_operators_images_may_be_asked_for(asked: str | None, chosen: str) -> None:
    assert NAMED.choose(asked) == chosen


@pytest.mark.parametrize("asked", ["", "three", "usual:latest", "one,two"])
def test_no_other_image_may(asked: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        NAMED.choose(asked)
    assert refused.value.hint == "Images: usual, one, two."


@pytest.mark.parametrize(("had", "gets"), [("two", "two"), ("usual", "usual"), ("of before", "usual"), ("", "usual")])
def test_a_sandbox_starts_again_on_its_own_image_while_that_is_named(had: str, gets: str) -> None:
    assert NAMED.again(had) == gets


class Image:
    """A sandbox of an image that sets variables, or lacks what is named `without`."""

    def __init__(self, sandbox: Sandbox, *, env: Mapping[str, str], without: str) -> None:
        self._sandbox, self._env, self._without = sandbox, env, without

    async def start(self, command: Command, *, output: OutputSink) -> Process:
        argv = [part.replace(self._without, "/nowhere") for part in command.argv]
        return await self._sandbox.start(replace(command, argv=argv, env={**self._env, **command.env}), output=output)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    driver = FakeDriver(tmp_path / "sandboxes")
    async with sandbox_of(driver, image=FAKE_IMAGE) as launched:
        yield launched
    await driver.aclose()


@pytest.mark.parametrize(
    ("env", "without", "found"),
    [
        ({}, "nothing", Shell(BASH, may_be_left_out=True)),
        ({"NOT_BASH_ENV": "x", "BASH": "x", "BASH_ENVY": "x"}, "nothing", Shell(BASH, may_be_left_out=True)),
        ({"BASH_ENV": "x"}, "nothing", Shell(BASH, may_be_left_out=False)),
        ({"BASH_FUNC_ls%%": "() { rm; }"}, "nothing", Shell(BASH, may_be_left_out=False)),
        ({}, BASH, Shell(SH, may_be_left_out=False)),
    ],
)
async def test_bash_is_used_where_it_is_and_is_asked_where_it_is_set_up(
    sandbox: Sandbox, env: dict[str, str], without: str, found: Shell
) -> None:
    image = Image(sandbox, env=env, without=without)
    assert await shell_of(cast(Sandbox, image)) == found
    assert found.is_bash == (found.path == "/bin/bash")


async def test_a_shell_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def start(self, *_: object, **__: object) -> Any:
            return self

        async def wait(self) -> Exit:
            await anyio.sleep_forever()
            raise AssertionError

    monkeypatch.setattr("mcp_spaces.sandbox.images.PROBE_S", 0.01)
    with anyio.fail_after(20), pytest.raises(RuntimeUnavailable, match="shell"):
        await shell_of(cast(Sandbox, Silent()))
