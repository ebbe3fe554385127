"""The raw side: plain containers of the same image, through docker-py and the `docker` command."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import docker
from docker.models.containers import Container

from mcp_spaces.settings import Settings

FOREVER = ["sleep", "infinity"]


def image() -> str:
    """What sandboxes run on by default."""
    return str(Settings.model_fields["sandbox_image"].default)


def create(client: docker.DockerClient) -> Container:
    return client.containers.create(image(), FOREVER, network_mode="none", user="root", init=False)


@contextmanager
def plain() -> Iterator[Container]:
    """A started container without any of our walls but `network none`."""
    client = docker.from_env()
    container = create(client)
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True)
        client.close()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar, as `put_archive` takes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def fetch(container: Container, path: str) -> bytes:
    """`get_archive`, down to the file's bytes."""
    stream, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        member = tar.extractfile(tar.getmembers()[0])
        return b"" if member is None else member.read()
