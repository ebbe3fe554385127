"""References in requests: where one becomes its secret and where it is refused (L22), and what else is sent (T07)."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import anyio
import pytest

from mcp_spaces.network.model import Refused
from mcp_spaces.network.references import BodyWatch
from mcp_spaces.network.scrubbing import CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX
from mcp_spaces.vault.model import Bindings, Kind
from mcp_spaces.vault.wanted import wanted_entry
from tests.security.app import eventually
from tests.security.secret_scene import (
    CANARY,
    HOST,
    ORIGIN,
    REFERENCE,
    STANDARD,
    Scene,
    body_of,
    certificate,
    no_secret_in,
    scene,
    status,
)

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


async def test_l22_a_reference_in_a_bound_header_becomes_the_secret_over_tls(scene: Scene) -> None:
    answer = await scene.ask(f"Authorization: Bearer {REFERENCE}")
    assert status(answer) == 200
    assert f"Authorization: Bearer {CANARY}\r\n".encode() in scene.sent
    assert f"Host: {HOST}\r\n".encode() in scene.sent
    assert scene.lab.internet.dialled == [("127.0.0.1", 5443)]


async def test_l22_the_use_is_recorded_before_it_happens_and_never_the_value(scene: Scene) -> None:
    await scene.ask(f"Authorization: Bearer {REFERENCE}")
    (used,) = scene.lab.records.of("secret")
    assert used | {"fingerprint": "x"} == {
        "host": HOST, "port": 443, "header": "authorization", "path": "prod/api", "field": "token", "version": 1,
        "fingerprint": "x",
    }  # fmt: skip
    assert len(str(used["fingerprint"])) == 16
    row = scene.rig.database.read_one("SELECT run_id, body FROM audit WHERE kind = 'vault' ORDER BY seq DESC LIMIT 1")
    assert row is not None
    assert (row["run_id"], json.loads(row["body"])["purpose"]) == ("run_lab", "gateway_inject")
    assert scene.lab.records.learnt == [("rt_one", "prod/api")]
    assert no_secret_in(json.dumps(scene.lab.records.events).encode())
    # The same value has the same fingerprint, another one another.
    await scene.ask(f"Authorization: Bearer {REFERENCE}")
    assert len({str(one["fingerprint"]) for one in scene.lab.records.of("secret")}) == 1


async def test_l22_what_cannot_be_recorded_is_not_sent(scene: Scene) -> None:
    scene.lab.records.is_full = True
    assert status(await scene.ask(f"Authorization: Bearer {REFERENCE}")) == 503
    assert scene.site.received == []
    # Also where only the secret's own record finds no room: the server is reached by then, and told nothing.
    scene.lab.records.is_full, scene.lab.records.no_room_for = False, "secret"
    answer = await scene.ask(f"Authorization: Bearer {REFERENCE}")
    assert status(answer) == 503 and b"X-Mcp-Spaces-Refused: not_recorded" in answer
    assert scene.lab.records.of("allowed") and scene.site.received == []


@pytest.mark.parametrize("user", ["ann", "", "x-access-token"])
async def test_l22_basic_credentials_may_name_a_secret(scene: Scene, user: str) -> None:
    credentials = base64.b64encode(f"{user}:{REFERENCE}".encode()).decode()
    wanted = base64.b64encode(f"{user}:{CANARY}".encode())
    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\n\r\nyou sent " + wanted
    answer = await scene.ask(f"Authorization: Basic {credentials}")
    assert b"Authorization: Basic " + wanted in scene.sent
    assert body_of(answer) == b"you sent [redacted:prod/api]"


async def test_l22_a_user_name_and_a_password_come_from_a_login(scene: Scene) -> None:
    await scene.put("prod/login", kind=Kind.LOGIN)
    credentials = base64.b64encode(b"{{vault:prod/login#username}}:{{vault:prod/login}}").decode()
    await scene.ask(f"authorization: basic {credentials}")
    assert base64.b64encode(f"ann:{CANARY}".encode()) in scene.sent


ELSEWHERE = {
    "in the query": ({"uri": f"http://{HOST}/?key={REFERENCE}"}, "misplaced_reference"),
    "in the path": ({"uri": f"http://{HOST}/{{{{vault:prod/api}}}}"}, "misplaced_reference"),
    "percent-encoded in the query": ({"uri": f"http://{HOST}/?key={quote(REFERENCE)}"}, "misplaced_reference"),
    "in a header that it is not bound to": ({"field": f"X-Debug: {REFERENCE}"}, "not_bound"),
    "in a cookie": ({"field": f"Cookie: session={REFERENCE}"}, "not_bound"),
    "at a host that it is not bound to": ({"uri": "http://other.test/", "field": f"Authorization: {REFERENCE}"}, "not_bound"),
    "at a port that it is not bound to": ({"uri": f"http://{HOST}:8443/", "field": f"Authorization: {REFERENCE}"}, "not_bound"),
    "no path": ({"field": "Authorization: {{vault:../etc}}"}, "misplaced_reference"),
    "upper case": ({"field": "Authorization: {{vault:PROD/API}}"}, "misplaced_reference"),
    "not closed": ({"field": "Authorization: {{vault:prod/api"}, "misplaced_reference"),
    "a field that is not there": ({"field": "Authorization: {{vault:prod/api#password}}"}, "no_such_secret"),
    "a seed": ({"field": "Authorization: {{vault:prod/api#totp}}"}, "no_such_secret"),
    "an absent secret": ({"field": "Authorization: {{vault:prod/none}}"}, "no_such_secret"),
    "nine of them": ({"field": f"Authorization: {REFERENCE * 9}"}, "misplaced_reference"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "reason"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_l22_a_reference_anywhere_else_is_refused_and_nothing_is_opened(
    scene: Scene, asked: dict[str, str], reason: str
) -> None:
    answer = await scene.ask(*[asked["field"]] if "field" in asked else [], uri=asked.get("uri", f"http://{HOST}/"))
    assert status(answer) in (400, 403)
    assert f"X-Mcp-Spaces-Refused: {reason}".encode() in answer
    assert scene.reasons() == [reason]
    assert scene.lab.records.of("refused")[0]["host"] in (HOST, "other.test")
    assert scene.lab.internet.dialled == []
    assert await scene.rig.vault.last_use("prod/api") is None


@pytest.mark.parametrize("cut", range(1, 26, 6))
async def test_l22_a_reference_in_a_body_is_refused_wherever_it_is_cut(scene: Scene, cut: int) -> None:
    body = f'{{"key": "{REFERENCE}"}}'.encode()
    client = await scene.lab.client()
    head = f"POST http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    await client.say(head + body[:cut])
    await anyio.wait_all_tasks_blocked()
    await client.say(body[cut:])
    assert status(await client.hear()) == 403
    assert scene.reasons() == ["misplaced_reference"]


def test_l22_a_reference_in_a_body_is_found_at_every_cut() -> None:
    body = f"before {REFERENCE} after".encode()

    def see(*pieces: bytes) -> None:
        watch = BodyWatch()
        for piece in pieces:
            watch.see(piece)

    for cut in range(len(body)):
        with pytest.raises(Refused):
            see(body[:cut], body[cut:])
    see(b"{{vault:", b" is how it begins, {{vault:NO}} and this is none")


async def test_l22_denied_and_absent_look_the_same(scene: Scene) -> None:
    await scene.put("prod/admin")
    scene.policy(STANDARD, "prod", deny=("prod/admin",))
    absent = await scene.ask("Authorization: {{vault:prod/ghost}}")
    denied = await scene.ask("Authorization: {{vault:prod/admin}}")
    assert denied.replace(b"prod/admin", b"prod/ghost") == absent


async def test_l22_basic_credentials_are_learnt_so_often_and_no_more(scene: Scene) -> None:
    """The name beside the secret is chosen inside: each is another text to search every answer for."""

    async def ask_as(user: str) -> bytes:
        return await scene.ask(f"Authorization: Basic {base64.b64encode(f'{user}:{REFERENCE}'.encode()).decode()}")

    assert b"unfit_secret" in await ask_as("u" * CREDENTIALS_BYTES_MAX)
    for number in range(CREDENTIALS_MAX):
        assert status(await ask_as(f"user{number}")) == 200
    assert b"unfit_secret" in await ask_as("another")
    assert len(scene.site.received) == CREDENTIALS_MAX
    # Those that are known go on, and without Basic nothing is chosen inside.
    assert status(await ask_as("user0")) == 200
    assert status(await scene.ask(f"Authorization: Bearer {REFERENCE}")) == 200


@pytest.mark.parametrize("value", ["short", "two\r\nX-Injected: lines", "delete\x7fd", "x" * 20_000])
async def test_l22_a_value_that_fits_into_no_header_or_could_not_be_found_again_is_not_sent(
    scene: Scene, value: str
) -> None:
    wanted = wanted_entry(
        "prod/api", Kind.API_KEY, {"token": value}, label=None, bindings=Bindings(origins=(ORIGIN,)), now=1.0
    )
    await scene.rig.vault.keeping.put([wanted], run_id="run_test", action="set")
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert scene.reasons() == ["unfit_secret"]
    assert scene.site.received == []
    # Nothing stays open of what was opened for it.
    await eventually(lambda: all(task.done() for task in scene.lab.internet.tasks))


async def test_t07_nothing_of_the_gateway_or_its_keys_goes_to_a_server(scene: Scene) -> None:
    await scene.ask(f"Authorization: {REFERENCE}", "Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive")
    names = {line.partition(b":")[0].lower() for line in scene.sent.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"authorization", b"connection", b"accept-encoding"}
