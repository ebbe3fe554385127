"""What an agent asks people to enter: which paths, over what is there already, how often, and what it learns."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client import ClientRequestContext

from mcp_spaces.core.redaction import encodings
from mcp_spaces.errors import Conflict, Denied, NotFound, QuotaExceeded
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.endpoint import open_server
from mcp_spaces.server.limits import Lane
from mcp_spaces.vault.entry_requests import LIFETIME_S, OPEN_MAX, EntryRequests, EntryState
from mcp_spaces.vault.service import Vault
from tests.security.app import short_folder
from tests.security.daemons import nursery
from tests.security.entry_pages import CANARY, ORIGIN, a_place, page_at
from tests.security.lines import line_to
from tests.vault.rig import SEED_80_BITS, Time


async def test_whoever_waits_is_told_at_once_and_the_run_has_an_event() -> None:
    async with a_place() as place:
        asked = await place.request(kind="value")
        told: list[Any] = []

        async def wait() -> None:
            told.append(await place.state(asked.request, timeout_s=60))

        async with anyio.create_task_group() as tasks, page_at(asked.url) as page:
            tasks.start_soon(wait)
            await page.open()
            with anyio.fail_after(20):
                await page.send(value="line one\r\nline two\r\n")
        assert told[0].state == "entered"
        assert (await place.world.govern("vault.get", path="prod/api")).value == "line one\nline two\n"
        events = [
            row["body"] for row in place.world.database.read("SELECT body FROM events WHERE type = 'secret.entry'")
        ]
        assert len(events) == 1 and '"state":"entered"' in events[0]


async def test_an_answer_that_is_being_stored_when_the_time_is_over_still_counts() -> None:
    time = Time()
    async with a_place(clock=time.clock, served=False) as place:
        asked = await place.request(kind="value")
        entries = place.world.use(EntryRequests)
        vault_is_held = place.world.use(Vault).keeping._unlocking.held(create=True)
        told: list[EntryState] = []

        async def wait() -> None:
            told.append((await entries.outcome(asked.request, space_id=place.space, timeout_s=60)).state)

        async with anyio.create_task_group() as storing, vault_is_held:
            storing.start_soon(entries.enter, asked.url.rpartition("/")[2], {"value": CANARY})
            await anyio.wait_all_tasks_blocked()
            time.now += LIFETIME_S
            assert (await place.state(asked.request)).state == "open"
            storing.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert told == []
        assert told == [EntryState.ENTERED]


async def test_v08_a_path_outside_of_the_mount_is_refused_whether_it_is_there_or_not() -> None:
    async with a_place(served=False) as place:
        await place.world.govern("vault.set", path="admin/root", kind="value", value=CANARY)
        told = set()
        for path in ("admin/root", "admin/none", "prod/admin"):
            with pytest.raises(Denied) as refused:
                await place.request(path=path)
            told.add((refused.value.message, refused.value.hint, refused.value.rule))
        assert len(told) == 1


async def test_what_is_there_is_replaced_only_with_the_same_kind_and_bindings() -> None:
    async with a_place() as place:
        await place.world.govern("vault.set", path="prod/api", kind="value", value="old value", origins=[ORIGIN])
        others: list[dict[str, Any]] = [
            {"origins": ["https://evil.example"]},
            {"origins": []},
            {"kind": "api_key"},
            {"headers": ["x-key"]},
        ]
        for other in others:
            with pytest.raises(Conflict):
                await place.request(**other)
        asked = await place.request()
        async with page_at(asked.url) as page:
            assert "version 1 already" in (await page.open()).text
            # It was bound elsewhere while the page was open.
            await place.world.govern("vault.update", path="prod/api", origins=["https://other.example"])
            assert (await page.send(value=CANARY)).status_code == 409
            await place.world.govern("vault.update", path="prod/api", origins=[ORIGIN])
            assert (await page.send(value=CANARY)).status_code == 200
        assert (await place.world.govern("vault.get", path="prod/api")).value == CANARY


async def test_what_a_person_leaves_empty_stays_as_it_is() -> None:
    async with a_place() as place:
        await place.world.govern(
            "vault.set", path="prod/api", kind="login", username="ann", password="old password", totp=SEED_80_BITS,
            notes="call the desk", label="Site", origins=[ORIGIN],
        )  # fmt: skip
        asked = await place.request(kind="login")
        async with page_at(asked.url) as page:
            shown = (await page.open()).text
            assert "what you leave empty stays as it is" in shown
            assert "required" not in shown
            nothing = await page.send(username="", password="", totp="")
            assert (nothing.status_code, "Nothing was entered" in nothing.text) == (422, True)
            assert (await page.send(username="", password=CANARY, totp="")).status_code == 200
        view = await place.world.govern("vault.describe", path="prod/api")
        assert (view.fields, view.label) == (["username", "password", "totp", "notes"], "Site")
        assert (view.version, view.origins) == (2, [ORIGIN])
        assert (await place.world.govern("vault.get", path="prod/api")).value == CANARY
        assert (await place.world.govern("vault.get", path="prod/api", field="notes")).value == "call the desk"


async def test_t19_a_space_cannot_wear_people_out_with_pages() -> None:
    async with a_place(served=False) as place:
        for number in range(OPEN_MAX):
            await place.request(path=f"prod/s{number}")
        with pytest.raises(QuotaExceeded):
            await place.request(path="prod/more")


async def test_t01_another_space_learns_nothing_of_a_request() -> None:
    async with a_place(served=False) as place:
        asked = await place.request()
        other = await place.world.space("other", mounts={"vault": {"allow": ["prod"]}})
        with pytest.raises(NotFound):
            await place.world.call("vault.wait_entry", space=other, request=asked.request, timeout_s=0)


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("through", ["vault_request_entry", "operation_call"])
async def test_a_client_that_opens_pages_is_sent_there_and_the_model_gets_no_address(
    era: Literal["auto", "legacy"], through: str
) -> None:
    opened: list[str] = []

    async def open_page(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestURLParams)
        opened.append(params.url)
        async with page_at(params.url) as page:
            await page.open()
            assert (await page.send(value=CANARY)).status_code == 200
        return types.ElicitResult(action="accept")

    async with a_place() as place, open_server(place.world.app, place.world.app.settings) as server:
        wanted: dict[str, Any] = {"space": place.space, "path": "prod/api", "origins": [ORIGIN]}
        who = place.world.operator if through == "vault_request_entry" else place.world.agent
        if through == "operation_call":
            wanted = {"operation": "vault.request_entry", "input": wanted}
        with visited_by(Visitor(who, Lane(8, 8))):
            async with Client(server, mode=era, elicitation_callback=open_page, read_timeout_seconds=20) as client:
                answer = await client.call_tool(through, wanted)
                assert not answer.is_error, answer
                assert len(opened) == 1
                assert "/entries/" not in answer.model_dump_json()
                content = answer.structured_content or {}
                assert content["state"] == ("entered" if era == "auto" else "open")
                if era == "legacy":
                    assert (await place.state(content["request"])).state == "entered"
            async with Client(server, mode=era, read_timeout_seconds=20) as client:
                answer = await client.call_tool(through, wanted)
                assert "/entries/" in (answer.structured_content or {})["url"]


async def test_a_daemon_without_http_opens_a_page_when_one_is_asked_for_and_its_log_holds_nothing_of_it() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state)
            async with line_to(state, operator=True) as operator, line_to(state) as agent:
                mounts = {"vault": {"allow": ["prod"]}}
                await operator.call("principal.grant", principal="local-agent", scope=mounts)
                space = (await agent.call("space.create", name="work", mounts=mounts)).content["id"]
                asked = await agent.call("vault.request_entry", space=space, path="prod/api", origins=[ORIGIN])
                async with page_at(asked.content["url"]) as page:
                    await page.open()
                    assert (await page.send(value=CANARY)).status_code == 200
                waited = await agent.call("vault.wait_entry", space=space, request=asked.content["request"])
                assert waited.content["state"] == "entered"
                assert (await operator.call("vault.get", path="prod/api")).content["value"] == CANARY
            assert await nurse.stop(pid) == 0
        log = (state / "daemon.log").read_text("utf-8")
        assert "listening on" in log and "/entries/" not in log
        token = asked.content["url"].rpartition("/")[2]
        assert [one for one in (*encodings(CANARY), token) if one in log] == []
