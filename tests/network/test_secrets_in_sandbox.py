"""What people use with tokens and passwords, inside a real sandbox: every program sees a reference, every server the
secret, and nothing inside, around or recorded of the sandbox ever holds it."""

# ruff: noqa: ASYNC110, ASYNC221 - what happens inside can only be asked for, file by file
from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from mcp_spaces.core.redaction import encodings
from tests.folders import content_of, files_below
from tests.network.servers import (
    Echo,
    Git,
    Site,
    certificate_for,
    guarded,
    node_registry,
    package_index,
    repository,
    serving,
)
from tests.sandbox.rigs import docker_driver
from tests.security.app import REAL_IMAGE, World, open_world

pytestmark = pytest.mark.anyio

TOKEN = "tok_9f/Zq+canary-0123456789~ÄÖ="
PASSWORD = "pa55 w&rd/canary?0123456789"
NAMES = ("api.test", "pip.test", "npm.test", "git.test", "open.test")
BASIC = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
BEARER = f"Bearer {TOKEN}".encode().decode("latin-1")


@dataclass(frozen=True)
class Servers:
    private_hosts: tuple[str, ...]
    certificate: Path


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    folders = {name: tmp_path / "sites" / name for name in NAMES}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["open.test"] / "hello.txt").write_text("hello\n")
    package_index(folders["pip.test"])
    repository(folders["git.test"])
    node_registry(folders["npm.test"], "http://npm.test")
    certificate = certificate_for("api.test", tmp_path, *NAMES[1:])
    handlers: dict[str, type[Site]] = {
        "api.test": guarded(Echo, BEARER), "pip.test": guarded(Site, BASIC), "npm.test": guarded(Site, BEARER),
        "git.test": guarded(Git, BASIC), "open.test": Site,
    }  # fmt: skip
    with ExitStack() as running:
        ports = {
            name: running.enter_context(serving(folders[name], handlers[name], certificate=certificate))
            for name in NAMES
        }
        yield Servers(tuple(f"{name}:443=127.0.0.1:{port}" for name, port in ports.items()), tmp_path / "cert.pem")


@dataclass
class Inside:
    world: World
    folder: Path

    async def run(self, command: str, **more: Any) -> Any:
        return await self.world.call("sandbox.shell", space="net", runtime="main", command=command, **more)

    async def out(self, command: str) -> str:
        ran = await self.run(command)
        assert ran.exit_code == 0, ran
        return str(ran.stdout)

    async def write(self, path: str, content: str) -> None:
        await self.world.call("sandbox.write_file", space="net", path=path, content=content)

    async def log(self) -> list[tuple[str, dict[str, Any]]]:
        read = await self.world.govern("network.log", space="net", runtime="main", limit=1000)
        return [(line.type.removeprefix("network."), dict(line.body)) for line in read.lines]

    async def used(self) -> list[str]:
        return [body["path"] for kind, body in await self.log() if kind == "secret"]


@asynccontextmanager
async def inside_of(folder: Path, servers: Servers, *, own_authority: bool) -> AsyncIterator[Inside]:
    async with (
        docker_driver(folder / "driver") as driver,
        open_world(
            folder,
            driver=driver,
            sandbox_image=REAL_IMAGE,
            network_private_hosts=servers.private_hosts,
            network_authorities=servers.certificate,
        ) as world,
    ):
        for path, name in (("prod/api", "api.test"), ("prod/npm", "npm.test")):
            await world.govern("vault.set", path=path, kind="api_key", token=TOKEN, origins=[f"https://{name}"])
        await world.govern(
            "vault.set", path="prod/login", kind="login", username="ann", password=PASSWORD,
            origins=["https://pip.test", "https://git.test"],
        )  # fmt: skip
        mounts = {
            "network": {"mode": "allowlist", "allow": list(NAMES), "own_authority": own_authority},
            "vault": {"allow": ["prod"]},
        }
        scope = {"vault": {"allow": ["prod"]}, "network": {"mode": "allowlist", "allow": list(NAMES)}}
        await world.govern("principal.grant", principal="local-agent", policy="permissive", scope=scope)
        await world.call("space.create", name="net", policy={"preset": "permissive"}, mounts=mounts)
        await world.call("sandbox.launch", space="net", alias="main")
        yield Inside(world, folder)


@pytest.fixture
async def inside(tmp_path: Path, servers: Servers) -> AsyncIterator[Inside]:
    async with inside_of(tmp_path, servers, own_authority=False) as inside:
        yield inside


@pytest.fixture
async def terminated(tmp_path: Path, servers: Servers) -> AsyncIterator[Inside]:
    async with inside_of(tmp_path, servers, own_authority=True) as inside:
        yield inside


# ------------------------------------------------------------------------------------------ plain http inside


async def test_l22_curl_python_and_node_use_a_token_that_they_never_see(inside: Inside) -> None:
    curl = await inside.out("curl -sSf -i -H 'Authorization: Bearer {{vault:prod/api}}' http://api.test/")
    assert curl.count("[redacted:prod/api]") == 4
    python = (
        "import urllib.request as u\n"
        "r = u.Request('http://api.test/', headers={'Authorization': 'Bearer {{vault:prod/api#token}}'})\n"
        "print(u.urlopen(r).read().decode())\n"
    )
    await inside.write("client.py", python)
    assert "[redacted:prod/api]" in await inside.out("python3 client.py")
    node = (
        "const http = require('http')\n"
        "const headers = {Host: 'api.test', Authorization: 'Bearer {{vault:prod/api}}'}\n"
        "http.get({host: '127.0.0.1', port: 3128, path: 'http://api.test/', headers}, answer => answer.pipe(process.stdout))\n"
    )
    await inside.write("client.js", node)
    assert "[redacted:prod/api]" in await inside.out("node client.js")
    assert await inside.used() == ["prod/api"] * 3
    await nothing_holds_the_secrets(inside)


async def test_l22_pip_and_npm_install_with_credentials_by_reference(inside: Inside) -> None:
    pip = (
        "pip install -q --target lib --trusted-host pip.test"
        " --index-url 'http://ann:%7B%7Bvault%3Aprod%2Flogin%7D%7D@pip.test/simple' tinypkg"
    )
    await inside.out(f"{pip} && PYTHONPATH=lib python3 -c 'import tinypkg; assert tinypkg.ANSWER == 42'")
    await inside.write("web/.npmrc", "registry=http://npm.test/\n//npm.test/:_authToken={{vault:prod/npm}}\n")
    await inside.write("web/package.json", "{}")
    await inside.out("cd web && npm install --no-audit --no-fund --loglevel=error tinynode")
    assert await inside.out("cd web && node -p 'require(\"tinynode\")'") == "42\n"
    assert set(await inside.used()) == {"prod/login", "prod/npm"}
    await nothing_holds_the_secrets(inside)


GIT_WORK = (
    "set -e; git clone -q {address}/project.git; cd project; head -c 3000000 /dev/urandom > blob; git add blob\n"
    "git -c user.name=a -c user.email=a@a commit -q -m second; git push -q origin main; git rev-parse HEAD\n"
)


async def test_l22_git_clones_and_pushes_with_a_password_by_reference(inside: Inside) -> None:
    # git asks without credentials first; that request goes over TLS too, since a secret is bound there.
    await inside.write("work.sh", GIT_WORK.format(address="http://ann:%7B%7Bvault%3Aprod%2Flogin%7D%7D@git.test"))
    pushed = await inside.out("sh work.sh")
    listed = await inside.out("git -C project ls-remote origin main")
    assert listed == f"{pushed.strip()}\trefs/heads/main\n"
    assert set(await inside.used()) == {"prod/login"}
    await nothing_holds_the_secrets(inside)


async def test_l22_a_websocket_is_opened_with_a_token_by_reference(inside: Inside) -> None:
    client = (
        "import base64, os, socket\n"
        "peer = socket.create_connection(('127.0.0.1', 3128)); file = peer.makefile('rb')\n"
        "peer.sendall(('GET http://api.test/socket HTTP/1.1\\r\\nHost: api.test\\r\\nUpgrade: websocket\\r\\n'\n"
        "  'Connection: Upgrade\\r\\nAuthorization: Bearer {{vault:prod/api}}\\r\\n'\n"
        "  f'Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n').encode())\n"
        "print(file.readline().decode().split()[1], end=' ')\n"
        "while file.readline() != b'\\r\\n': pass\n"
        "peer.sendall(b'\\x81\\x84\\0\\0\\0\\0ping'); print(file.read(6)[2:].decode())\n"
    )
    await inside.write("ws.py", client)
    assert await inside.out("python3 ws.py") == "101 ping\n"


async def test_l22_taking_a_secret_elsewhere_fails_and_stands_in_the_run(inside: Inside) -> None:
    outcome = await inside.world.outcome(
        "sandbox.shell",
        space="net",
        command="curl -s 'http://api.test/?stolen={{vault:prod/api}}' -g; curl -s -H 'Authorization: {{vault:prod/api}}' http://open.test/;"
        " curl -s -d 'key={{vault:prod/api}}' http://api.test/",
    )
    assert outcome.output.model_dump()["stdout"].count("mcp-spaces: ") == 3
    rows = inside.world.database.read(
        "SELECT json_extract(body, '$.reason') AS reason FROM events WHERE run_id = ? AND type = 'network.refused'",
        (outcome.run_id,),
    )
    assert [row["reason"] for row in rows] == ["misplaced_reference", "not_bound", "misplaced_reference"]


async def test_l22_a_policy_that_asks_stops_the_first_use_until_a_person_agrees(inside: Inside) -> None:
    policy = {"policy": {"preset": "permissive", "overrides": {"secrets": {"use": "ask"}}}}
    await inside.world.call("space.update", space="net", patch=policy)
    use = "curl -sS -H 'Authorization: Bearer {{vault:prod/api}}' http://api.test/"
    refused = await inside.out(use)
    assert "needs_approval" in refused
    (pending,) = (await inside.world.govern("approval.list")).approvals
    assert f"mcp-spaces approve {pending.id}" in refused
    assert (pending.principal_name, pending.space_name) == ("code in sandbox main", "net")
    assert pending.reason == "prod/api would be put into requests to https://api.test."
    await inside.world.govern("approval.grant", approval=pending.id)
    assert "[redacted:prod/api]" in await inside.out(f"{use}; {use}")
    # Another secret, or another origin, is another question.
    assert "needs_approval" in await inside.out(use.replace("prod/api", "prod/npm").replace("api.test", "npm.test"))


async def test_what_a_run_used_is_taken_out_of_its_own_answer_whichever_way_it_came(inside: Inside) -> None:
    """The seat belt behind the wall; a run that used nothing says nothing about a guess (L21)."""
    await inside.write("guess.txt", TOKEN)
    use = "curl -sS -o answer.txt -H 'Authorization: Bearer {{vault:prod/api}}' http://api.test/"
    assert await inside.out(f"{use}; cat guess.txt") == "[redacted:prod/api]"
    assert await inside.out("cat guess.txt") == TOKEN


async def test_l11_where_nobody_can_say_who_used_a_secret_all_that_runs_there_is_kept_clean(inside: Inside) -> None:
    """A job beside a call, and two calls: each would show what another of them got."""
    await inside.write("guess.txt", TOKEN)
    job = await inside.run(
        "until [ -e go ]; do sleep 0.02; done;"
        " curl -sSf -o answer.txt -H 'Authorization: Bearer {{vault:prod/api}}' http://api.test/; cat guess.txt; touch used",
        background=True,
    )
    shown: list[str] = []

    async def look() -> None:
        shown.append(await inside.out("touch go; until [ -e used ]; do sleep 0.02; done; cat guess.txt"))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            tasks.start_soon(look)
    await inside.world.call("job.wait", space="net", job=job.job)
    told = await inside.world.call("job.read", space="net", job=job.job)
    assert [*shown, "".join(piece.text for piece in told.output)] == ["[redacted:prod/api]"] * 3


# --------------------------------------------------------------------------------------- https inside as well


async def test_l22_with_an_authority_of_its_own_a_space_s_tools_use_https(terminated: Inside) -> None:
    inside = terminated
    curl = await inside.out("curl -sSf -i -H 'Authorization: Bearer {{vault:prod/api}}' https://api.test/")
    assert curl.count("[redacted:prod/api]") == 4
    python = (
        "import urllib.request as u\n"
        "r = u.Request('https://api.test/', headers={'Authorization': 'Bearer {{vault:prod/api#token}}'})\n"
        "print(u.urlopen(r).read().decode())\n"
    )
    await inside.write("client.py", python)
    assert "[redacted:prod/api]" in await inside.out("python3 client.py")
    node = (
        "const http = require('http'), https = require('https'), tls = require('tls')\n"
        "const proxy = {host: '127.0.0.1', port: 3128, method: 'CONNECT', path: 'api.test:443', headers: {Host: 'api.test:443'}}\n"
        "http.request(proxy).on('connect', (_, socket) =>\n"
        "  https.get({host: 'api.test', headers: {Host: 'api.test', Authorization: 'Bearer {{vault:prod/api}}'},\n"
        "    createConnection: () => tls.connect({socket, servername: 'api.test'})},\n"
        "    answer => answer.pipe(process.stdout))).end()\n"
    )
    await inside.write("client.js", node)
    assert "[redacted:prod/api]" in await inside.out("node client.js")
    await nothing_holds_the_secrets(inside)


async def test_l22_pip_npm_and_git_use_https_under_the_space_s_authority(terminated: Inside) -> None:
    inside = terminated
    await inside.out(
        "pip install -q --target lib --index-url 'https://ann:%7B%7Bvault%3Aprod%2Flogin%7D%7D@pip.test/simple' tinypkg"
    )
    await inside.write("web/.npmrc", "registry=https://npm.test/\n//npm.test/:_authToken={{vault:prod/npm}}\n")
    await inside.write("web/package.json", "{}")
    await inside.out("cd web && npm install --no-audit --no-fund --loglevel=error tinynode")
    await inside.write("work.sh", GIT_WORK.format(address="https://ann:%7B%7Bvault%3Aprod%2Flogin%7D%7D@git.test"))
    pushed = await inside.out("sh work.sh")
    assert await inside.out("git -C project ls-remote origin main") == f"{pushed.strip()}\trefs/heads/main\n"
    await nothing_holds_the_secrets(inside)


async def test_l22_other_hosts_stay_tunnels_and_see_their_own_certificate(terminated: Inside, servers: Servers) -> None:
    inside = terminated
    # Nothing is bound there: TLS goes through untouched, to a server that only its own authority vouches for.
    refused = await inside.run("curl -sS https://open.test/hello.txt")
    assert refused.exit_code == 60, refused
    await inside.write("own.crt", servers.certificate.read_text())
    assert await inside.out("curl -sSf --cacert own.crt https://open.test/hello.txt") == "hello\n"
    # A bound one is the gateway's, and its leaf is for that name alone.
    issuer = "curl -sSv -o /dev/null https://api.test/ 2>&1 | grep -E 'issuer|subject:'"
    assert "mcp-spaces gateway of" in await inside.out(issuer)


async def test_n14_inside_of_a_terminated_tunnel_host_has_to_be_the_judged_one(terminated: Inside) -> None:
    inside = terminated
    fronted = await inside.out(
        "curl -sS -H 'Host: open.test' -H 'Authorization: Bearer {{vault:prod/api}}' https://api.test/"
    )
    assert "reason: other_name" in fronted
    # A reference in the address is told there in words too, and a plain request in such a tunnel goes on by TLS.
    assert "reason: misplaced_reference" in await inside.out("curl -sS -g 'https://api.test/?k={{vault:prod/api}}'")
    plain = "curl -sS -p -x http://127.0.0.1:3128 -H 'Authorization: Bearer {{vault:prod/api}}' http://api.test:443/"
    assert "[redacted:prod/api]" in await inside.out(plain)
    assert await inside.used() == ["prod/api"]


async def test_l22_an_authority_is_a_space_s_own_sealed_and_off_unless_asked_for(
    tmp_path: Path, servers: Servers
) -> None:
    async with inside_of(tmp_path, servers, own_authority=False) as inside:
        assert "SSL_CERT_FILE" not in await inside.out("env")
        refused = await inside.run("curl -sS -H 'Authorization: Bearer {{vault:prod/api}}' https://api.test/")
        assert refused.exit_code == 60, refused
        mounts = {"network": {"mode": "allowlist", "allow": list(NAMES), "own_authority": True}}
        bundles = []
        for name in ("one", "two"):
            await inside.world.call("space.create", name=name, policy={"preset": "permissive"}, mounts=mounts)
            await inside.world.call("sandbox.launch", space=name, alias="main")
            ran = await inside.world.call("sandbox.shell", space=name, command="tail -n 12 $SSL_CERT_FILE")
            bundles.append(ran.stdout)
        assert bundles[0] != bundles[1]
        sealed = [bytes(row["sealed"]) for row in inside.world.database.read("SELECT sealed FROM space_authorities")]
        assert len(sealed) == 2
        for one in sealed:
            assert b"PRIVATE KEY" not in one
            with pytest.raises(ValueError, match="deserialize"):
                load_der_private_key(one, password=None)


# ------------------------------------------------------------------------------------------ nothing holds them


async def nothing_holds_the_secrets(inside: Inside) -> None:
    """Every form of every secret, looked for wherever something of the sandbox or its runs is kept."""
    forms = {form.encode() for value in (TOKEN, PASSWORD, f"ann:{PASSWORD}") for form in encodings(value)}

    def found(where: str, content: bytes) -> list[str]:
        return [f"{where}: {form!r}" for form in forms if form in content]

    runtime = (await inside.world.govern("sandbox.list", space="net")).sandboxes[0].id
    container = subprocess.run(
        ["docker", "ps", "-q", "--no-trunc", "--filter", f"label=mcp-spaces.runtime={runtime}"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert len(container) == 1, container
    holders: list[str] = []
    holders += found("docker inspect", _said("docker", "inspect", container[0]))
    since = str(int(time.time()) - 120)
    holders += found("docker events", _said("docker", "events", "--since", since, "--until", str(int(time.time()))))
    processes = [int(pid) for pid in _said("docker", "top", container[0], "-eo", "pid").split()[1:]]
    read = 0
    for pid in processes:
        for where, content in (*_memory_of(pid), *_files_of(pid)):
            read += len(content)
            holders += found(where, content)
    assert os.geteuid() != 0 or read > 1 << 20
    for path in files_below(inside.folder):
        # The workspace's disk is a sparse file of gigabytes; what is on it was read from inside.
        if "sites" not in path.parts:
            holders += found(str(path), content_of(path, most_bytes=64 << 20))
    runs = (await inside.world.govern("run.list", space="net", limit=100)).runs
    for run in runs:
        told = await inside.world.govern("run.get", run=run.id)
        holders += found(f"run {run.id}", told.model_dump_json().encode())
    everything = json.dumps([body for _, body in await inside.log()])
    holders += found("network log", everything.encode())
    assert holders == []


def _said(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def _memory_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """Environment, arguments and every readable page of a process. A test that may not look is skipped, and says so."""
    try:
        for name in ("environ", "cmdline"):
            yield f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()
        maps = Path(f"/proc/{pid}/maps").read_text()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps.splitlines():
                area, rights = line.split()[:2]
                begin, end = (int(part, 16) for part in area.split("-"))
                # What a process wrote itself; libraries and other mapped files are the image's.
                if not rights.startswith("rw") or end - begin > 256 << 20:
                    continue
                try:
                    memory.seek(begin)
                    yield f"/proc/{pid}/mem {area}", memory.read(end - begin)
                except (OSError, ValueError):
                    continue
    except PermissionError:
        pytest.skip("only root may read the memory of a sandbox's processes")
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended meanwhile


def _files_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """What it could have written, as the sandbox sees it."""
    for folder in ("workspace", "tmp", "dev/shm"):
        for path in files_below(Path(f"/proc/{pid}/root/{folder}")):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    yield str(path), path.read_bytes()


async def test_the_search_would_find_a_secret(inside: Inside) -> None:
    """A search that finds nothing has to be one that could."""
    await inside.run(f"LEAKED='{PASSWORD}' exec sleep 1000", background=True)
    with anyio.fail_after(20):
        while not (await inside.out("pgrep -c sleep || true")).startswith("1"):
            await anyio.sleep(0.05)
    with pytest.raises(AssertionError, match="canary"):
        await nothing_holds_the_secrets(inside)
