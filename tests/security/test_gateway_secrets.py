"""Secrets at the gateway: raw bytes against the real gateway, the real vault and a server that speaks TLS."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLError
from urllib.parse import quote

import anyio
import pytest

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.changes import Changes
from mcp_spaces.core.policy import Policy, policy_from
from mcp_spaces.core.redaction import encodings
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import Reason, Refused, SecretAccess, Target
from mcp_spaces.network.references import BodyWatch
from mcp_spaces.network.scrubbing import CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX, Scrubber
from mcp_spaces.network.tls import TlsConnection, Trust, server_context
from mcp_spaces.vault.model import Bindings, Kind
from mcp_spaces.vault.wanted import wanted_entry
from tests.network.lab import Client, Lab, allowing, laboratory, pair
from tests.network.servers import certificate_for
from tests.security.app import eventually
from tests.vault.rig import Rig, open_rig

pytestmark = pytest.mark.anyio

CANARY = "s3cr3t-Tök&n/+<value>=42"
HOST = "api.test"
ORIGIN = f"https://{HOST}"
REFERENCE = "{{vault:prod/api#token}}"
STANDARD = policy_from("standard", {})
PRIVATE = (f"{HOST}:80=127.0.0.1:5080", f"{HOST}:443=127.0.0.1:5443", f"{HOST}:8443=127.0.0.1:5444",
           "other.test:443=127.0.0.1:5443", "other.test:80=127.0.0.1:5080")  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(HOST, tmp_path_factory.mktemp("certificate"))


@dataclass
class Site:
    """A server that speaks TLS: keeps what it was sent, and answers with whatever a test made of it."""

    certificate: Path
    received: list[bytes] = field(default_factory=list)
    answer: Callable[[bytes], bytes] = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    afterwards: Callable[[TlsConnection], Awaitable[None]] | None = None
    piece_bytes: int = 1 << 20

    async def serve(self, connection: Upstream) -> None:
        secured = TlsConnection(connection, server_context(str(self.certificate)))
        try:
            await secured.handshake()
        except (SSLError, RuntimeUnavailable):
            return
        heard = b""
        while b"\r\n\r\n" not in heard:
            piece = await secured.receive()
            if not piece:
                return
            heard += piece
        self.received.append(heard)
        answer = self.answer(heard)
        for at in range(0, len(answer), self.piece_bytes):
            await secured.send(answer[at : at + self.piece_bytes])
        if self.afterwards is not None:
            await self.afterwards(secured)
        await secured.finish()


@dataclass
class Scene:
    lab: Lab
    rig: Rig
    site: Site

    async def put(self, path: str = "prod/api", *, kind: Kind = Kind.API_KEY, **bindings: tuple[str, ...]) -> None:
        fields = {Kind.API_KEY: {"token": CANARY}, Kind.LOGIN: {"username": "ann", "password": CANARY}}[kind]
        wanted = wanted_entry(
            path, kind, fields, label=None, bindings=Bindings(**{"origins": (ORIGIN,), **bindings}), now=1.0
        )
        await self.rig.vault.keeping.put([wanted], run_id="run_test", action="set")

    async def ask(self, *fields: str, uri: str = f"http://{HOST}/", method: str = "GET", body: bytes = b"") -> bytes:
        host = uri.partition("://")[2].partition("/")[0].partition("?")[0]
        lines = [f"{method} {uri} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        return await self.lab.ask("\r\n".join(lines).encode() + body)

    def policy(self, policy: Policy, *allow: str, deny: tuple[str, ...] = ()) -> None:
        self.lab.rules.vault = SecretAccess(VaultGrant(allow=allow or ("prod",), deny=deny), policy, "work")

    def reasons(self) -> list[object]:
        return [body["reason"] for body in self.lab.records.of("refused")]

    @property
    def sent(self) -> bytes:
        """What the server got, of the last request."""
        return self.site.received[-1]


@asynccontextmanager
async def staged(folder: Path, certificate: Path) -> AsyncIterator[Scene]:
    async with (
        open_rig(folder) as rig,
        laboratory(
            allowing(HOST, "other.test"), private=PRIVATE, rig=rig, authorities=certificate, clock=rig.time.clock
        ) as lab,
    ):
        site = Site(certificate)
        for port in (5443, 5444):
            lab.internet.servers["127.0.0.1", port] = site.serve
        scene = Scene(lab, rig, site)
        scene.policy(STANDARD)
        await scene.put()
        yield scene


@pytest.fixture
async def scene(tmp_path: Path, certificate: Path) -> AsyncIterator[Scene]:
    async with staged(tmp_path, certificate) as scene:
        yield scene


def status(answer: bytes) -> int:
    return int(answer[9:12])


def body_of(answer: bytes) -> bytes:
    """Without chunks."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def no_secret_in(text: bytes) -> bool:
    return [form for form in encodings(CANARY) if form.encode() in text] == []


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


async def test_without_a_reference_a_server_whose_plain_port_alone_is_listed_is_asked_plainly(scene: Scene) -> None:
    scene.lab.rules.now = allowing(f"{HOST}:80")
    assert status(await scene.ask()) == 200
    assert scene.lab.internet.dialled == [("127.0.0.1", 5080)]
    assert b"not_listed" in await scene.ask(f"Authorization: {REFERENCE}")
    assert scene.lab.internet.dialled == [("127.0.0.1", 5080)]


async def test_l22_denied_and_absent_look_the_same(scene: Scene) -> None:
    await scene.put("prod/admin")
    scene.policy(STANDARD, "prod", deny=("prod/admin",))
    absent = await scene.ask("Authorization: {{vault:prod/ghost}}")
    denied = await scene.ask("Authorization: {{vault:prod/admin}}")
    assert denied.replace(b"prod/admin", b"prod/ghost") == absent


async def test_l22_a_policy_that_asks_leaves_a_question_and_a_yes_holds_for_that_origin(scene: Scene) -> None:
    await scene.put(origins=(ORIGIN, f"{ORIGIN}:8443"))
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    refused = [await scene.ask(f"Authorization: {REFERENCE}") for _ in range(2)]
    assert [status(one) for one in refused] == [403, 403]
    (pending,) = approvals.pending()
    assert f"mcp-spaces approve {pending.id}".encode() in refused[1]
    assert (pending.operation, pending.space_name) == ("network.use_secret", "work")
    assert scene.site.received == []
    await approvals.decide(pending.id, grant=True, decided_by="pr_person", run_id="run_person")
    for _ in range(3):
        assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 200
    # Another origin is another question, and so is the time after the yes has expired.
    assert status(await scene.ask(f"Authorization: {REFERENCE}", uri=f"http://{HOST}:8443/")) == 403
    scene.rig.time.now += 25 * 3600
    # What the database says beside the sealed row counts for nothing.
    await scene.rig.database.write(lambda tx: tx.execute("UPDATE approvals SET expires_at = 1e12"))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403


async def test_l22_a_policy_that_denies_and_a_person_who_says_no_are_heard(scene: Scene) -> None:
    scene.policy(policy_from("standard", {"secrets": {"use": "deny"}}))
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert b"secrets.use" in answer
    assert scene.reasons() == ["policy"]
    scene.policy(policy_from("standard", {"operations": {"network.use_secret": "deny"}}))
    assert b"operations.network.use_secret" in await scene.ask(f"Authorization: {REFERENCE}")
    assert scene.site.received == []
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    await scene.ask(f"Authorization: {REFERENCE}")
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    await approvals.decide(approvals.pending()[0].id, grant=False, decided_by="pr_person", run_id="run_person")
    assert b"said no" in await scene.ask(f"Authorization: {REFERENCE}")
    # The no was heard; what is asked again is asked anew, and waits again.
    assert [b"mcp-spaces approve" in await scene.ask(f"Authorization: {REFERENCE}") for _ in range(2)] == [True, True]
    assert scene.site.received == []
    assert await scene.rig.vault.last_use("prod/api") is None


async def test_l22_an_answer_that_was_used_up_counts_as_a_yes_only_where_it_says_so(scene: Scene) -> None:
    """Rows of before kept no answer: a no that was heard then looks like a yes that was used."""
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    await scene.ask(f"Authorization: {REFERENCE}")
    approvals, database = Approvals(scene.rig.database, scene.rig.time.clock), scene.rig.database
    (asked,) = approvals.pending()
    row = json.loads(asked.model_dump_json()) | {"state": "consumed", "decided_by": "pr_person"}
    del row["answer"]
    body = json.dumps(row)
    mac = database.sealer.seal_row("approvals", asked.id, body)
    await database.write(lambda tx: tx.execute("UPDATE approvals SET state='consumed', body=?, mac=?", (body, mac)))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert scene.site.received == []


async def test_l22_a_server_that_does_not_prove_who_it_is_gets_no_secret(scene: Scene) -> None:
    await scene.put(origins=(ORIGIN, "https://other.test"))
    answer = await scene.ask(f"Authorization: {REFERENCE}", uri="http://other.test/")
    assert status(answer) == 502
    assert scene.reasons() == ["bad_certificate"]
    assert scene.site.received == []
    assert await scene.rig.vault.last_use("prod/api") is None


async def test_l22_the_operators_authority_counts_for_private_hosts_alone(certificate: Path) -> None:
    trust = Trust(certificate)
    for private, proven in ((True, True), (False, False)):
        ours, theirs = await pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Site(certificate).serve, theirs)
            try:
                await trust.connect(ours, Target(HOST, 443), private=private)
            except Exception:
                assert not proven
            else:
                assert proven
            tasks.cancel_scope.cancel()
        for end in (ours, theirs):
            end.close()


async def test_n16_a_server_that_never_ends_its_handshake_is_given_up() -> None:
    ours, theirs = await pair()
    with anyio.fail_after(20), pytest.raises(Refused) as refusal:
        await Trust(handshake_s=0.05).connect(ours, Target(HOST, 443), private=False)
    assert refusal.value.reason is Reason.TOO_SLOW
    theirs.close()


def test_an_operators_file_without_certificates_is_told_at_the_start(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        if content is not None:
            (tmp_path / "own.pem").write_text(content)
        with pytest.raises(InvalidInput, match="network_authorities"):
            Trust(tmp_path / "own.pem")


def forms() -> Iterator[str]:
    yield from sorted(encodings(CANARY))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 64, 1 << 20])
async def test_l22_l25_what_a_server_echoes_comes_back_without_the_secret_wherever_it_is_cut(
    scene: Scene, piece_bytes: int
) -> None:
    body = "".join(f"<{form}>\n" for form in forms()).encode()
    chunked = b"".join(
        b"%x;x=y\r\n%s\r\n" % (len(body[at : at + 5]), body[at : at + 5]) for at in range(0, len(body), 5)
    )
    head = (
        f"HTTP/1.1 418 you sent {CANARY}\r\nX-Echo: {CANARY}\r\nX-{base64.b64encode(CANARY.encode()).hex()}: 1\r\n"
        f"Set-Cookie: x={quote(CANARY, safe='')}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
    ).encode()
    scene.site.answer = lambda _: head + chunked + f"0\r\nX-Late: {CANARY}\r\n\r\n".encode()
    scene.site.piece_bytes = piece_bytes
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert status(answer) == 418
    assert no_secret_in(answer)
    assert no_secret_in(body_of(answer))
    assert set(body_of(answer).split()) == {b"<[redacted:prod/api]>"}
    assert b"X-Echo: [redacted:prod/api]" in answer
    assert b"X-Late" not in answer


async def test_l25_an_error_of_a_server_is_searched_and_so_are_later_answers(scene: Scene) -> None:
    """Also where the later request names no secret: the server may have kept it."""
    scene.site.answer = lambda _: f"HTTP/1.1 401 no\r\nContent-Length: 30\r\n\r\nbad key {CANARY}"[:200].encode()
    first = await scene.ask(f"Authorization: {REFERENCE}")
    later = await scene.ask()
    for answer in (first, later):
        assert no_secret_in(answer)
    assert b"bad key [redacted:" in body_of(later)


async def test_l22_an_answer_that_could_hide_the_secret_is_not_asked_for_and_not_passed_on(scene: Scene) -> None:
    await scene.ask(f"Authorization: {REFERENCE}", "Accept-Encoding: gzip, br", "Range: bytes=0-3", "If-Range: x")
    assert b"Accept-Encoding: identity\r\n" in scene.sent
    assert b"gzip" not in scene.sent
    assert b"Range" not in scene.sent
    squeezed = gzip.compress(CANARY.encode())
    for head in (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"HTTP/1.1 206 Part"):
        scene.site.answer = lambda _, head=head: head + b"\r\n\r\n" + squeezed  # type: ignore[misc]
        answer = await scene.ask(f"Authorization: {REFERENCE}")
        assert status(answer) == 502
        assert squeezed not in answer
    assert scene.reasons() == ["encoded_answer"] * 2


async def test_l22_a_websocket_echo_is_masked_without_breaking_its_frames(scene: Scene) -> None:
    frame = b"\x81" + bytes([len(CANARY.encode())]) + CANARY.encode()
    scene.site.answer = lambda _: (
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + frame + b"\x88\x00"
    )
    client = await scene.lab.client()
    await client.say(
        f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {REFERENCE}\r\n\r\n".encode()
    )
    answer = await client.hear(until=b"\x88\x00")
    client.end.close()
    assert status(answer) == 101
    assert answer.endswith(frame[:2] + b"*" * len(CANARY.encode()) + b"\x88\x00")
    assert b"Extensions" not in scene.sent


async def test_events_are_not_held_up_by_the_search(scene: Scene) -> None:
    """What cannot begin a secret goes on at once: a stream of events stays one."""
    go = anyio.Event()

    async def more(connection: TlsConnection) -> None:
        await go.wait()
        await connection.send(b"data: two\n\n")

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    scene.site.afterwards = more
    client = await scene.lab.client()
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"data: one\n\n" in await client.hear(until=b"one\n\n")
    go.set()
    assert b"data: two\n\n" in await client.hear()


async def test_requests_to_a_bound_origin_go_over_tls_also_without_a_secret_and_redirects_stay_here(
    scene: Scene,
) -> None:
    """git asks without credentials first, and a client that is sent on to https would take its reference there."""
    scene.site.answer = lambda _: f"HTTP/1.1 301 Moved\r\nLocation: {ORIGIN}/new\r\nContent-Length: 0\r\n\r\n".encode()
    answer = await scene.ask(uri=f"http://{HOST}/old")
    assert scene.lab.internet.dialled == [("127.0.0.1", 5443)]
    assert f"Location: http://{HOST}/new\r\n".encode() in answer
    scene.site.answer = lambda _: (
        f"HTTP/1.1 301 Moved\r\nLocation: {ORIGIN}.evil/\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert f"Location: {ORIGIN}.evil/\r\n".encode() in await scene.ask()


async def test_a_secret_bound_to_one_other_port_is_used_there(scene: Scene) -> None:
    await scene.put(origins=(f"{ORIGIN}:8443",))
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 200
    assert scene.lab.internet.dialled == [("127.0.0.1", 5444)]
    assert f"Host: {HOST}:8443\r\n".encode() in scene.sent


async def test_a_reference_works_in_a_plain_tunnel_too(scene: Scene) -> None:
    """Some clients send plain requests by CONNECT."""
    client = await scene.lab.tunnel(f"{HOST}:80")
    await client.say(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert status(await client.hear()) == 200
    assert CANARY.encode() in scene.sent


async def open_stream(scene: Scene) -> Client:
    """One that was opened with the secret, and on which nothing is said any more."""

    async def silent(connection: TlsConnection) -> None:
        await connection.receive()

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    scene.site.afterwards = silent
    client = await scene.lab.client()
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"data: one\n\n" in await client.hear(until=b"one\n\n")
    return client


async def cut_off(scene: Scene, client: Client) -> bool:
    with anyio.fail_after(2):
        assert await client.hear() == b""
    await eventually(lambda: scene.lab.records.of("closed"))
    return scene.lab.records.of("closed")[-1]["reason"] == "withdrawn"


async def test_l22_a_mount_that_is_taken_away_counts_at_once(scene: Scene) -> None:
    client = await open_stream(scene)
    await scene.lab.gateway.recheck()
    assert scene.lab.gateway.open_connections == 1
    scene.lab.rules.vault = SecretAccess(VaultGrant(), STANDARD)
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)
    assert status(await scene.ask(f"Authorization: {REFERENCE}")) == 403
    assert len(scene.site.received) == 1


@pytest.mark.parametrize("verdict", ["deny", "ask"])
async def test_l22_a_policy_that_permits_a_secret_no_more_ends_what_was_opened_with_it(
    scene: Scene, verdict: str
) -> None:
    client = await open_stream(scene)
    scene.policy(policy_from("standard", {"secrets": {"use": verdict}}))
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)
    assert Approvals(scene.rig.database, scene.rig.time.clock).pending() == []


async def test_l22_a_yes_keeps_a_stream_open_until_it_expires(scene: Scene) -> None:
    scene.policy(policy_from("standard", {"secrets": {"use": "ask"}}))
    approvals = Approvals(scene.rig.database, scene.rig.time.clock)
    await scene.ask(f"Authorization: {REFERENCE}")
    await approvals.decide(approvals.pending()[0].id, grant=True, decided_by="pr_person", run_id="run_person")
    client = await open_stream(scene)
    await scene.lab.gateway.recheck()
    assert scene.lab.gateway.open_connections == 1
    scene.rig.time.now += 25 * 3600
    await scene.lab.gateway.recheck()
    assert await cut_off(scene, client)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_l22_a_secret_that_is_changed_ends_what_was_opened_with_it_in_two_seconds(
    scene: Scene, change: str
) -> None:
    """Nobody announces what a person does to a vault."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(scene.lab.gateway.watch, Changes())
        client = await open_stream(scene)
        if change == "deleted":
            await scene.rig.vault.keeping.delete("prod/api", run_id="run_test")
        else:
            await scene.put()
        assert await cut_off(scene, client)
        tasks.cancel_scope.cancel()


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


def test_l22_a_secret_that_overlaps_another_is_masked_at_its_length_at_every_cut() -> None:
    scrubber = Scrubber()
    scrubber.learn("first-secret", name="a")
    scrubber.learn("secret-second", name="b")
    content = b"\x81\x13first-secret-second\x88\x00"
    for cut in range(len(content)):
        stream = scrubber.stream(same_length=True)
        masked = stream.feed(content[:cut]) + stream.feed(content[cut:]) + stream.finish()
        assert masked == b"\x81\x13" + b"*" * 19 + b"\x88\x00"


@pytest.mark.parametrize("value", ["short", "two\r\nX-Injected: lines", "x" * 20_000])
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


def test_l22_the_search_finds_every_form_at_every_cut_and_holds_back_no_more_than_it_must() -> None:
    scrubber = Scrubber()
    scrubber.learn(CANARY, name="prod/api")
    for form in forms():
        content = f"before {form} after".encode()
        for cut in range(len(content)):
            stream = scrubber.stream()
            assert (
                stream.feed(content[:cut]) + stream.feed(content[cut:]) + stream.finish()
                == b"before [redacted:prod/api] after"
            )
    stream = scrubber.stream()
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"


async def test_t07_nothing_of_the_gateway_or_its_keys_goes_to_a_server(scene: Scene) -> None:
    await scene.ask(f"Authorization: {REFERENCE}", "Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive")
    names = {line.partition(b":")[0].lower() for line in scene.sent.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"authorization", b"connection", b"accept-encoding"}
