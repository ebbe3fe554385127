"""What callers are told when the engine fails, and the command that mends it for `mcp-spaces doctor`."""

from __future__ import annotations

import shlex
import shutil

from mcp_spaces.errors import Conflict, NotFound, QuotaExceeded, RuntimeUnavailable, SpacesError

JOIN_GROUP = "sudo usermod -aG docker $USER"
CANNOT_MOUNT = "failed to mount local volume"
NO_APPARMOR = '"apparmor_parser": executable file not found'


def translated(error: Exception) -> SpacesError:
    """What callers are told about an exception of docker, requests or a socket. The cause stays attached."""
    import docker.errors
    import requests.exceptions

    if isinstance(error, SpacesError):
        return error
    if isinstance(error, docker.errors.ImageNotFound):
        return NotFound("The engine has no such image.", hint="Build ours with `make image`.")
    if isinstance(error, docker.errors.NotFound):
        return NotFound("The engine has no such thing (any more).", hint="Start the runtime again.")
    if isinstance(error, docker.errors.APIError):
        status = error.status_code
        if status == 409:
            return Conflict("The engine is busy with that container.", hint="Try again in a moment.")
        if CANNOT_MOUNT in str(error):
            return RuntimeUnavailable(
                "The engine cannot mount the workspace's disk.",
                hint="A rootless engine needs a daemon of the same user, not of root's.",
            )
        if NO_APPARMOR in str(error):
            return RuntimeUnavailable(
                "The engine cannot start containers: this kernel has AppArmor on, and its tools are not installed.",
                hint="Run `sudo apt-get install apparmor` (or your distribution's package), then restart the engine.",
            )
        if status == 507:
            return QuotaExceeded("The engine has no space left.", hint="Free space on the host.")
        return RuntimeUnavailable(
            f"The engine refused ({status or 'no status'}).", hint="See the daemon's log, then `mcp-spaces doctor`."
        )
    if isinstance(error, (requests.exceptions.Timeout, TimeoutError)):
        return RuntimeUnavailable("The engine does not answer in time.", hint="Run `mcp-spaces doctor`.")
    if isinstance(error, (docker.errors.DockerException, requests.exceptions.RequestException, OSError)):
        return RuntimeUnavailable("The engine does not answer.", hint="Is Docker running? Run `mcp-spaces doctor`.")
    return RuntimeUnavailable("The engine answered something unexpected.", hint="See the daemon's log.")


def unreachable(error: OSError, *, socket_path: str) -> RuntimeUnavailable:
    """What a socket that cannot be connected to says of the engine."""
    match error:
        case PermissionError():
            return RuntimeUnavailable(
                f"Your user may not use {socket_path}.", hint=f"Run `{JOIN_GROUP}`, then log in again."
            )
        case FileNotFoundError():
            return RuntimeUnavailable(
                f"There is no {socket_path}: the engine is not installed, or not running.",
                hint="Install it, or start it; `mcp-spaces doctor` has the command.",
            )
        case _:
            return RuntimeUnavailable("The engine does not answer.", hint="Is Docker running? Run `mcp-spaces doctor`.")


def missing(image: str) -> RuntimeUnavailable:
    """Nothing is ever pulled, so that the engine has to have it."""
    return RuntimeUnavailable(f"The image {image} is missing.", hint=f"Run `{image_command(image)}`.")


def image_command(image: str) -> str:
    """What brings an image into the engine: set-up builds those of ours."""
    return "make image" if image.startswith("mcp-spaces-") else f"docker pull {shlex.quote(image)}"


def mend(error: SpacesError) -> str:
    """The command that mends an engine that cannot be used."""
    match error.__cause__:
        case PermissionError():
            return f"{JOIN_GROUP}    # then log in again"
        case FileNotFoundError() if shutil.which("dockerd") is None:
            return "sudo apt-get install docker.io    # elsewhere: https://docs.docker.com/engine/install/"
        case _:
            return "sudo systemctl start docker"
