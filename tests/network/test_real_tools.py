"""What people use, inside a real sandbox, through the real gateway, to real servers that the operator opened."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.network.inside import Inside
from tests.network.servers import Git, certificate_for, package_index, repository, serving
from tests.sandbox.rigs import docker_driver
from tests.security.app import REAL_IMAGE, eventually, open_world

pytestmark = pytest.mark.anyio

SITES = ["site.test", "tls.test", "index.test", "git.test"]


@dataclass(frozen=True)
class Servers:
    private_hosts: tuple[str, ...]
    authority: str
    folder: Path


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    folders = {name: tmp_path / name for name in SITES}
    for folder in folders.values():
        folder.mkdir()
    (folders["site.test"] / "hello.txt").write_text("hello from outside\n")
    (folders["site.test"] / "large").write_bytes(bytes(range(256)) * 20_000)
    (folders["tls.test"] / "hello.txt").write_text("hello over TLS\n")
    package_index(folders["index.test"])
    repository(folders["git.test"])
    certificate = certificate_for("tls.test", tmp_path)
    with ExitStack() as running:
        site = running.enter_context(serving(folders["site.test"]))
        tls = running.enter_context(serving(folders["tls.test"], certificate=certificate))
        index = running.enter_context(serving(folders["index.test"]))
        git = running.enter_context(serving(folders["git.test"], Git))
        private = (f"site.test:80=127.0.0.1:{site}", f"tls.test:443=127.0.0.1:{tls}",
                   f"index.test:80=127.0.0.1:{index}", f"git.test:80=127.0.0.1:{git}", f"ftp.test:25=127.0.0.1:{site}")  # fmt: skip
        yield Servers(private, (tmp_path / "cert.pem").read_text(), tmp_path)


@asynccontextmanager
async def inside_of(folder: Path, servers: Servers, *allow: str) -> AsyncIterator[Inside]:
    async with (
        docker_driver(folder / "driver") as driver,
        open_world(
            folder, driver=driver, sandbox_image=REAL_IMAGE, network_private_hosts=servers.private_hosts
        ) as world,
    ):
        await world.govern(
            "space.create",
            name="net",
            policy={"preset": "permissive"},
            mounts={"network": {"mode": "allowlist", "allow": list(allow)}},
        )
        await world.govern("sandbox.launch", space="net", alias="main")
        yield Inside(world, world.operator)


@pytest.fixture
async def inside(tmp_path: Path, servers: Servers) -> AsyncIterator[Inside]:
    async with inside_of(tmp_path, servers, *SITES) as inside:
        yield inside


async def test_curl_downloads_uploads_and_speaks_tls(inside: Inside, servers: Servers) -> None:
    assert await inside.out("curl -sSf http://site.test/hello.txt") == "hello from outside\n"
    digest = hashlib.sha256(bytes(range(256)) * 20_000).hexdigest()
    assert digest in await inside.out("curl -sSf http://site.test/large | tee large | sha256sum")
    assert await inside.out("curl -sSf --data-binary @large http://site.test/echo") == digest
    assert await inside.out("curl -sSf -T - -X POST http://site.test/echo < large") == digest
    await inside.write("ca.crt", servers.authority)
    assert await inside.out("curl -sSf --cacert ca.crt https://tls.test/hello.txt") == "hello over TLS\n"


async def test_what_is_not_listed_is_refused_in_words_a_model_can_read(inside: Inside) -> None:
    refused = await inside.run("curl -sS https://elsewhere.test/; curl -s http://elsewhere.test/")
    assert "403" in refused.stderr
    assert "elsewhere.test:80 is not in the space's list (rule: network.allow)" in refused.stdout
    assert [body["host"] for kind, body in await inside.log() if kind == "refused"] == ["elsewhere.test"] * 2


async def test_python_s_clients_go_through(inside: Inside, servers: Servers) -> None:
    await inside.write("ca.crt", servers.authority)
    script = (
        "import ssl, urllib.request as u\n"
        "print(u.urlopen('http://site.test/hello.txt').read().decode(), end='')\n"
        "print(u.urlopen('https://tls.test/hello.txt', context=ssl.create_default_context(cafile='ca.crt')).read().decode(), end='')\n"
        "import http.client\n"
        "c = http.client.HTTPConnection('127.0.0.1', 3128); c.set_tunnel('site.test', 80)\n"
        "c.request('GET', '/hello.txt'); print(c.getresponse().read().decode(), end='')\n"
    )
    await inside.write("client.py", script)
    assert await inside.out("python3 client.py") == "hello from outside\nhello over TLS\nhello from outside\n"


async def test_pip_installs_from_an_index(inside: Inside) -> None:
    install = "pip install -q --target lib --index-url http://index.test/simple --trusted-host index.test tinypkg"
    await inside.out(f"{install} && PYTHONPATH=lib python3 -c 'import tinypkg; assert tinypkg.ANSWER == 42'")


async def test_git_clones_and_pushes_over_http(inside: Inside) -> None:
    work = (
        "set -e; git clone -q http://git.test/project.git; cd project; head -c 3000000 /dev/urandom > blob; git add blob\n"
        "git -c user.name=a -c user.email=a@a commit -q -m second; git push -q origin main; git rev-parse HEAD\n"
    )
    # In a file: a push that stands in the command itself would need a person's approval.
    await inside.write("work.sh", work)
    pushed = await inside.out("sh work.sh")
    assert await inside.out("git ls-remote http://git.test/project.git main") == f"{pushed.strip()}\trefs/heads/main\n"


WEBSOCKET_CLIENT = """
import base64, os, socket
def frames(peer):
    def say(text, code=1):
        mask = os.urandom(4)
        peer.sendall(bytes([0x80 | code, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
    handshake = (f'GET {path} HTTP/1.1\\r\\nHost: site.test\\r\\nUpgrade: websocket\\r\\nConnection: keep-alive, Upgrade\\r\\n'
        f'Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n')
    peer.sendall(handshake.encode())
    file = peer.makefile('rb')
    print(file.readline().decode().split()[1], end=' ')
    while file.readline() != b'\\r\\n': pass
    for word in (b'ping', b'pong'):
        say(word); print(file.read(2 + len(word))[2:].decode(), end=' ')
    say(b'', 8); print(file.read())
path = 'http://site.test/socket'
frames(socket.create_connection(('127.0.0.1', 3128)))
path = '/socket'
peer = socket.create_connection(('127.0.0.1', 3128))
peer.sendall(b'CONNECT site.test:80 HTTP/1.1\\r\\nHost: site.test:80\\r\\n\\r\\n')
head = b''
while not head.endswith(b'\\r\\n\\r\\n'): head += peer.recv(1)
frames(peer)
"""


async def test_a_websocket_goes_through_plainly_and_in_a_tunnel(inside: Inside) -> None:
    await inside.write("ws.py", WEBSOCKET_CLIENT)
    assert await inside.out("python3 ws.py") == "101 ping pong b'\\x88\\x00'\n" * 2


async def test_n01_n02_n03_n05_n07_n08_nothing_but_the_proxy_is_reachable(inside: Inside) -> None:
    """With the gateway in place the walls are the ones without it."""
    script = (
        "import socket\n"
        "def tried(family, kind, address):\n"
        "    try:\n"
        "        s = socket.socket(family, kind); s.settimeout(2); s.connect(address); s.send(b'x'); return 'reached'\n"
        "    except OSError as error: return error.errno\n"
        "v4, v6, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM\n"
        "found = [tried(v4, tcp, (a, p)) for a in ('172.17.0.1', '169.254.169.254', '8.8.8.8', '10.0.0.1') for p in (22, 80)]\n"
        "found += [tried(v4, udp, ('8.8.8.8', 53)), tried(v6, tcp, ('2606:4700::1111', 443)), tried(v6, udp, ('fe80::1', 53))]\n"
        "print(set(found) <= {101, 99, 97, 22}, tried(v4, tcp, ('127.0.0.1', 22)), found)\n"
        "try: print(socket.getaddrinfo('site.test', 80))\n"
        "except OSError: print('no DNS')\n"
        "for kind in (socket.SOCK_RAW,):\n"
        "    try: socket.socket(v4, kind, 1); print('raw')\n"
        "    except OSError: print('no raw')\n"
    )
    await inside.write("probe.py", script)
    said = await inside.out("python3 probe.py")
    assert said.startswith("True 111 "), said
    assert said.endswith("no DNS\nno raw\n"), said
    assert await inside.log() == []


async def test_n12_a_relay_inside_the_sandbox_reaches_no_more(inside: Inside) -> None:
    relay = (
        "import socket, threading\n"
        "listener = socket.create_server(('127.0.0.1', 8888)); print('up', flush=True)\n"
        "def pump(a, b):\n"
        "    while piece := a.recv(65536): b.sendall(piece)\n"
        "    b.close()\n"
        "while True:\n"
        "    peer, _ = listener.accept(); out = socket.create_connection(('127.0.0.1', 3128))\n"
        "    for pair in ((peer, out), (out, peer)): threading.Thread(target=pump, args=pair, daemon=True).start()\n"
    )
    await inside.write("relay.py", relay)
    await inside.run("python3 relay.py", background=True)
    through = "curl -s --retry 20 --retry-connrefused --retry-delay 0 --noproxy '' -x http://127.0.0.1:8888"
    assert await inside.out(f"{through} http://site.test/hello.txt") == "hello from outside\n"
    for attack in ("http://elsewhere.test/", "http://169.254.169.254/", "http://127.0.0.1:3128/"):
        assert "mcp-spaces:" in await inside.out(f"{through} {attack}")


async def test_a_changed_mount_takes_effect_at_once_for_open_connections_too(inside: Inside) -> None:
    """N13: within two seconds, by the announcement of the change."""
    client = (
        "import socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', 3128))\n"
        "s.sendall(b'POST http://site.test/echo HTTP/1.1\\r\\nHost: site.test\\r\\nContent-Length: 9\\r\\n\\r\\nhal')\n"
        "print('open', flush=True)\n"
        "try: print(s.recv(1000)[:12])\n"
        "except OSError as error: print(error)\n"
    )
    await inside.write("open.py", client)
    job = (await inside.run("python3 open.py", background=True)).job

    await eventually(lambda: inside.world.count("SELECT count(*) FROM events WHERE type = 'network.allowed'"))
    await inside.mount(mode="allowlist", allow=["git.test"])
    # Nothing else ends it: the request is half sent.
    with anyio.fail_after(20):
        await inside.world.govern("job.wait", space="net", job=job)
    read = await inside.world.govern("job.read", space="net", job=job)
    assert "403" in "".join(piece.text for piece in read.output)
    assert [body["reason"] for kind, body in await inside.log() if kind == "closed"] == ["withdrawn"]
    assert "not_listed" in await inside.out("curl -s http://site.test/hello.txt")
    await inside.mount(mode="none")
    assert "no_network" in await inside.out("curl -s -x http://127.0.0.1:3128 http://git.test/")
    await inside.mount(mode="allowlist", allow=["site.test"])
    assert await inside.out("curl -sSf http://site.test/hello.txt") == "hello from outside\n"


async def test_n16_a_program_that_is_stopped_leaves_no_connection_to_a_silent_server(inside: Inside) -> None:
    from mcp_spaces.network.gateway import Gateway

    job = (await inside.run("curl -s http://site.test/silent", background=True)).job
    await eventually(lambda: inside.world.count("SELECT count(*) FROM events WHERE type = 'network.allowed'"))
    await inside.world.govern("job.stop", space="net", job=job)
    # Long before the 120 s after which a connection without a word is closed.
    await eventually(lambda: not inside.world.use(Gateway).open_connections)
    assert [body["reason"] for kind, body in await inside.log() if kind == "closed"] == ["client_left"]


async def test_events_stand_in_the_run_that_caused_them(inside: Inside) -> None:
    outcome = await inside.world.outcome(
        "sandbox.shell", caller=inside.world.operator, space="net", command="curl -s http://site.test/hello.txt"
    )
    await eventually(lambda: inside.world.count("SELECT count(*) FROM events WHERE type = 'network.closed'"))
    rows = inside.world.database.read("SELECT DISTINCT run_id FROM events WHERE type LIKE 'network.%'")
    assert [row["run_id"] for row in rows] == [outcome.run_id]


async def test_n17_without_the_gateway_s_end_nothing_is_reachable(inside: Inside) -> None:
    """It fails closed: the agent, its stream and the gateway go together, and no other way was ever there."""
    from mcp_spaces.network.gateway import Gateway

    runtime = (await inside.world.govern("sandbox.list", space="net")).sandboxes[0].id
    client = "python3 -c \"import socket; s = socket.create_connection(('127.0.0.1', 3128)); s.recv(1); print('cut')\""
    job = (await inside.run(client, background=True)).job
    gateway = inside.world.use(Gateway)
    await eventually(lambda: gateway.open_connections)
    gateway.detach(runtime)
    await eventually(lambda: not gateway.open_connections)
    ended = await inside.world.govern("job.wait", space="net", job=job)
    assert ended.state != "running"
    refused = await inside.run("curl -sS http://site.test/hello.txt; curl -sS --noproxy '*' http://site.test/hello.txt")
    # Closed at once: whether curl had seen the connection by then is chance.
    assert any(words in refused.stderr for words in ("Empty reply", "reset", "Failed to connect")), refused
    assert "Could not resolve host" in refused.stderr
    assert refused.stdout == ""


async def test_a_server_in_one_sandbox_is_reached_from_another_of_the_space(inside: Inside) -> None:
    await inside.world.govern("sandbox.launch", space="net", alias="web")
    await inside.world.call(
        "sandbox.shell", caller=inside.world.operator, space="net", runtime="web", background=True,
        command="echo built > index.html; exec python3 -m http.server --bind 127.0.0.1 8000",
    )  # fmt: skip
    retry = "--retry 50 --retry-all-errors --retry-delay 0 --retry-max-time 15"
    assert await inside.out(f"curl -sSf {retry} http://web.sandbox.internal:8000/") == "built\n"
    assert "no_such_sandbox" in await inside.out("curl -s http://other.sandbox.internal:8000/")
    assert "unreachable" in await inside.out("curl -s http://web.sandbox.internal:3128/")
    await inside.mount(mode="none")
    assert await inside.out("curl -sSf http://web.sandbox.internal:8000/") == "built\n"
    assert "no_network" in await inside.out("curl -s http://site.test/hello.txt")
    await inside.world.govern("space.create", name="foreign", policy={"preset": "permissive"}, mounts={"network": {"mode": "allowlist", "allow": ["site.test"]}})  # fmt: skip
    await inside.world.govern("sandbox.launch", space="foreign", alias="main")
    foreign = await inside.world.call(
        "sandbox.shell", caller=inside.world.operator, space="foreign", command="curl -s http://web.sandbox.internal:8000/"
    )  # fmt: skip
    assert "no_such_sandbox" in foreign.stdout


async def test_a_sandbox_that_was_launched_without_the_space_s_network_is_told_so_in_words(inside: Inside) -> None:
    await inside.world.govern("sandbox.launch", space="net", alias="alone", scope={"network": {"mode": "none"}})
    told = await inside.world.call(
        "sandbox.shell", caller=inside.world.operator, space="net", runtime="alone",
        command="curl -sS http://site.test/; curl -sS http://main.sandbox.internal:8000/",
    )  # fmt: skip
    assert "launched without a network: stop and launch it again" in told.stdout
    assert "sandboxes that have one are out of reach" in told.stdout
    refused = await inside.world.govern("network.log", space="net", runtime="alone")
    assert [(line.body["host"], line.body["reason"]) for line in refused.lines] == [
        ("site.test", "no_network"),
        ("main.sandbox.internal", "no_network"),
    ]


async def test_the_operator_forwards_a_port_for_as_long_as_the_call_lasts(inside: Inside) -> None:
    await inside.run("echo shown > index.html; exec python3 -m http.server --bind 127.0.0.1 8000", background=True)
    await inside.out("curl -sSf --retry 50 --retry-all-errors --retry-delay 0 --noproxy '*' http://127.0.0.1:8000/")
    told: list[str] = []

    async def progress(_done: float, _total: float | None, message: str) -> None:
        told.append(message)

    async with anyio.create_task_group() as tasks:

        async def forward() -> None:
            await inside.world.app.pipeline.call(
                inside.world.operator, "network.forward", {"space": "net", "port": 8000}, progress=progress
            )

        tasks.start_soon(forward)
        await eventually(lambda: told)
        port = int(told[0].partition("127.0.0.1:")[2].split()[0])
        async with await anyio.connect_tcp("127.0.0.1", port) as peer:
            await peer.send(b"GET / HTTP/1.0\r\n\r\n")
            heard = b""
            with anyio.fail_after(20):
                while b"shown\n" not in heard:
                    heard += await peer.receive()
        tasks.cancel_scope.cancel()
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", port)
