"""Tools inside a sandbox that insist on https get the space's own authority, sealed and off unless asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tests.network.inside import Inside
from tests.network.secrets.mounted import GIT_WORK, NAMES, Servers, inside_of
from tests.network.secrets.search import nothing_holds_the_secrets


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
