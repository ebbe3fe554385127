"""Small real servers on this machine's loopback, which tests open to sandboxes by name and port."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import socketserver
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Site(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; `/echo` answers with what it was sent; `/socket` is a WebSocket that says everything again;
    `/silent` says nothing until its client is gone."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.close_connection = True
            self.rfile.read(1)
            return
        if self.path != "/socket":
            super().do_GET()
            return
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + WEBSOCKET).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        self.close_connection = True
        while header := self.rfile.read(2):
            size = header[1] & 0x7F
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([header[0], size]) + payload)
            if header[0] & 0xF == 8:
                return

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = bytearray()
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = bytearray(self.rfile.read(int(self.headers["Content-Length"])))
        answer = hashlib.sha256(content).hexdigest().encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(answer), 10):
            piece = answer[at : at + 10]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


class Echo(Site):
    """Says the head of the request again, in every way that a careless server might."""

    def do_GET(self) -> None:
        if self.path == "/socket":
            super().do_GET()
            return
        said = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        authorization = self.headers.get("Authorization", "")
        body = f"{said}\n{base64.b64encode(said.encode()).decode()}\n{authorization.encode().hex()}\n".encode()
        self.send_response(200)
        self.send_header("X-Echo", authorization)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def guarded(handler: type[Site], *accepted: str) -> type[Site]:
    """Answers 401 unless `Authorization` is one of these."""

    class Guarded(handler):  # type: ignore[valid-type, misc]
        def _is_permitted(self) -> bool:
            if self.headers.get("Authorization", "") in accepted:
                return True
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = f"not {self.headers.get('Authorization')}\n".encode()
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            return False

        def do_GET(self) -> None:  # noqa: N802
            if self._is_permitted():
                super().do_GET()

        def do_POST(self) -> None:  # noqa: N802
            if self._is_permitted():
                super().do_POST()

    return Guarded


class Git(Site):
    """`git http-backend` over CGI."""

    def do_GET(self) -> None:
        self._backend(b"")

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = bytearray()
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            self._backend(bytes(content))
        else:
            self._backend(self.rfile.read(int(self.headers["Content-Length"])))

    def _backend(self, content: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.directory),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(content)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "agent",
        }
        ran = subprocess.run(["git", "http-backend"], input=content, env=environment, capture_output=True)
        head, _, body = ran.stdout.partition(b"\r\n\r\n")
        fields = [line.partition(b": ") for line in head.split(b"\r\n")]
        status = next((int(value.split()[0]) for name, _, value in fields if name == b"Status"), 200)
        self.send_response(status)
        for name, _, value in fields:
            if name != b"Status":
                self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are part of the tests."""


@contextmanager
def serving(
    folder: Path, handler: type[Site] = Site, *, certificate: Path | None = None, address: str = "127.0.0.1"
) -> Iterator[int]:
    """The port."""

    def make(*given: Any, **named: Any) -> socketserver.BaseRequestHandler:
        return handler(*given, directory=str(folder), **named)

    server = _Server((address, 0), make)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate_for(name: str, folder: Path, *more: str) -> Path:
    """Self-signed, also for `more` names: certificate and key in one file, and its own authority."""
    path = folder / f"{name}.pem"
    names = ",".join(f"DNS:{one}" for one in (name, *more))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName={names}", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return path


def package_index(folder: Path) -> None:
    """A "simple" index with one wheel."""
    home = folder / "simple" / "tinypkg"
    home.mkdir(parents=True)
    name = "tinypkg-1.0-py3-none-any.whl"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinypkg.py", "ANSWER = 42\n")
        archive.writestr("tinypkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n")
        archive.writestr(
            "tinypkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            "tinypkg-1.0.dist-info/RECORD",
            "tinypkg.py,,\ntinypkg-1.0.dist-info/METADATA,,\ntinypkg-1.0.dist-info/WHEEL,,\ntinypkg-1.0.dist-info/RECORD,,\n",
        )
    (home / name).write_bytes(wheel.getvalue())
    (home / "index.html").write_text(f'<a href="{name}">{name}</a>')


def node_registry(folder: Path, address: str) -> None:
    """An npm registry with one package, whose tarball is at `address`."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in (
            ("package/package.json", '{"name": "tinynode", "version": "1.0.0", "main": "index.js"}'),
            ("package/index.js", "module.exports = 42\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    content = archive.getvalue()
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "tinynode-1.0.0.tgz").write_bytes(content)
    dist = {"tarball": f"{address}/files/tinynode-1.0.0.tgz", "shasum": hashlib.sha1(content).hexdigest()}
    version = {"name": "tinynode", "version": "1.0.0", "dist": dist}
    document = {"name": "tinynode", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (folder / "tinynode").write_text(json.dumps(document))


def repository(folder: Path) -> None:
    """A bare repository `project.git` with one commit, open for pushes."""
    work = folder / "work"
    commands = [
        ["git", "init", "-q", "-b", "main", str(work)],
        ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "first"],
        ["git", "clone", "-q", "--bare", str(work), str(folder / "project.git")],
        ["git", "-C", str(folder / "project.git"), "config", "http.receivepack", "true"],
    ]  # fmt: skip
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
