"""How `vault update` clears what need not be there, and that no text is taken for it."""

from __future__ import annotations

from mcp_spaces.cli.command_line import command_line
from mcp_spaces.vault.keeping_operations import UPDATE
from tests.cli.served import served

KEPT = {"label": "CI", "origins": ["https://api.github.com"], "notes": "of the bot"}


async def test_what_is_given_as_nothing_is_cleared_and_everything_else_stays() -> None:
    async with served() as house:
        await house.world.govern("vault.set", path="prod/github", kind="api_key", token="tok-1234567890", **KEPT)
        label = await house.run("vault", "update", "prod/github", "--label", "", "--json")
        origins = await house.run("vault", "update", "prod/github", "--origins", "", "--json")
        notes = await house.run("vault", "update", "prod/github", "--no-notes", "--json")
    assert [one.code for one in (label, origins, notes)] == [0, 0, 0], (label, origins, notes)
    assert (label.json().get("label"), label.json()["origins"]) == (None, KEPT["origins"])
    assert (origins.json().get("origins"), origins.json()["fields"]) == ([], ["token", "notes"])
    assert notes.json()["fields"] == ["token"]


def test_a_command_that_clears_is_written_so() -> None:
    cleared: dict[str, object] = {"path": "prod/github", "label": None, "notes": None, "origins": []}
    assert command_line(UPDATE, cleared) == "mcp-spaces vault update prod/github --label '' --no-notes --origins ''"
    assert command_line(UPDATE, {"path": "prod/github", "token": "tok"}).endswith(" prod/github --token")


async def test_a_label_may_be_the_word_null() -> None:
    async with served() as house:
        await house.world.govern("vault.set", path="prod/github", kind="api_key", token="tok-1234567890", **KEPT)
        named = await house.run("vault", "update", "prod/github", "--label", "null", "--json")
    assert named.json()["label"] == "null"


async def test_what_a_secret_needs_is_not_cleared() -> None:
    async with served() as house:
        await house.world.govern("vault.set", path="prod/github", kind="api_key", token="tok-1234567890", **KEPT)
        ended = await house.run("vault", "update", "prod/github", "--no-token", "--json")
    assert ended.code == 1 and "needs its token" in ended.json()["error"]["message"]
