"""How the answers of some operations are told to people; the others are shown by their shape."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer

from mcp_spaces.cli import exits, show
from mcp_spaces.cli.wire import Answer

Content = Mapping[str, Any]

SPACE_COLUMNS = ("id", "name", "role", "state", "cpu", "memory", "disk", "net", "llm_tokens", "created_at")
RUN_COLUMNS = ("id", "operation", "state", "space", "principal", "error_code", "started_at", "duration_ms")
SECRET_COLUMNS = ("path", "kind", "label", "fields", "origins", "version", "last_used_at", "uses")
FILE_COLUMNS = ("path", "size_bytes", "content_type", "version", "updated_at", "source", "namespace", "uri")
PRINCIPAL_COLUMNS = ("id", "name", "kind", "policy", "operations", "storage", "vault", "network")
KEY_COLUMNS = ("id", "label", "principal", "state", "expires_at", "operator", "spaces", "operations", "created_at")
APPROVAL_COLUMNS = ("id", "operation", "by", "space", "reason", "expires_at")


def present(operation_id: str, answer: Answer, *, as_json: bool, more: str = "") -> None:
    """On stdout: the answer; on stderr: remarks. `more`: the command that gives the next page, where it is another."""
    if as_json:
        show.print_json(answer.content)
    elif (
        isinstance(answer.content, str)
        or operation_id not in SHOWN
        or isinstance(answer.content.get("truncated"), dict)
    ):
        # What was cut for a model, as with an agent's key, need not hold everything that a command would show.
        show.print_answer(answer.content)
    else:
        SHOWN[operation_id](answer.content)
        if operation_id != "job.read" or _has_more(answer.content):
            show.say_rest(answer.content, more=more)
    if operation_id == "audit.verify" and isinstance(answer.content, dict) and answer.content.get("intact") is not True:
        raise typer.Exit(exits.REFUSED)  # so that a cron job notices


def _spaces(content: Content) -> None:
    if not content["spaces"]:
        show.say("no spaces; make one: mcp-spaces space create NAME")
        return
    show.print_table(content["spaces"], SPACE_COLUMNS)


def _started(content: Content) -> None:
    show.print_line(f"space {content['id']} is {content['state']}")


def _pin(content: Content) -> None:
    show.print_line(f"a PIN is {'set' if content['is_set'] else 'not set any more'}")
    show.say(str(content["hint"]))


def _deleted(content: Content) -> None:
    show.print_line(f"deleted space {content['deleted']}")


def _shell(content: Content) -> None:
    """Output where it belongs, so that `… > file` holds what the command printed."""
    sys.stdout.flush()
    show.print_prose(str(content.get("stdout", "")))
    if content.get("stderr"):
        show.say(str(content["stderr"]).rstrip("\n"))
    if content.get("job"):
        show.print_line(f"job {content['job']} runs in the background")
    if content.get("artifact"):
        show.say(f"the whole output: mcp-spaces run read-artifact {content['artifact']} --output FILE")
    if content.get("timed_out"):
        show.say("timed out")
    elif content.get("exit_code"):
        show.say(f"exit code {content['exit_code']}")


def _job(content: Content) -> None:
    for piece in content["output"]:
        (show.say if piece["stream"] == "stderr" else show.print_prose)(piece["text"].removesuffix("\n"))
    ended = f", exit code {content['exit_code']}" if content.get("exit_code") is not None else ""
    show.say(f"{content['job']} is {content['state']}{ended}")


def _has_more(job: Content) -> bool:
    return bool(job["state"] == "running" or job["next_cursor"] < job["output_bytes"])


def _file(content: Content) -> None:
    if content.get("encoding", "utf-8") == "utf-8":
        show.print_prose(str(content["content"]))
    else:
        show.print_record(content)


def _files(content: Content) -> None:
    if not content["files"]:
        show.say("no files")
        return
    show.print_table(content["files"], FILE_COLUMNS)


def _gone(content: Content) -> None:
    show.print_line(f"deleted {show.cell('', content['path'])}, {show.amount(content['size_bytes'])}")


def _principals(content: Content) -> None:
    """What each may at most: the limits are in --json, and in what `principal grant` answers."""
    rows = []
    for one in content["principals"]:
        scope = one["scope"]
        storage = [f"{name} {grant['mode']}" for name, grant in scope["storage"].items()]
        network = scope["network"]
        hosts = network["allow"] if network["mode"] == "allowlist" else network["mode"]
        granted = {"operations": scope["operations"], "storage": storage, "vault": scope["vault"]["allow"]}
        rows.append({**one, **granted, "network": hosts})
    show.print_table(rows, PRINCIPAL_COLUMNS)


def _approvals(content: Content) -> None:
    waiting = content["approvals"]
    if not waiting:
        show.say("nothing waits for an approval")
        return
    rows = [{**one, "by": one.get("principal_name"), "space": one.get("space_name")} for one in waiting]
    show.print_table(rows, APPROVAL_COLUMNS)
    for one in waiting:
        # Said here as well: a narrow terminal has no room for that column.
        show.print_line(f"\n{one['id']}: {show.cell('', one['reason'])}")
        show.print_line(f"{show.cell('', one.get('principal_name'))} would call {one['operation']} with")
        show.print_line(_indented(str(one.get("input", ""))))
    show.say("\nyes: mcp-spaces approve ID     no: mcp-spaces approve --deny ID")


def _decided(content: Content) -> None:
    show.print_line(f"approval {content['id']} is {content['state']}")


def _runs(content: Content) -> None:
    if not content["runs"]:
        show.say("no runs")
        return
    rows = [
        {
            **one,
            "principal": one.get("principal_name") or one.get("principal"),
            "space": one.get("space_name") or one.get("space"),
        }
        for one in content["runs"]
    ]
    show.print_table(rows, RUN_COLUMNS)


def _backup(content: Content) -> None:
    show.print_line(f"wrote {show.cell('', content['path'])}, {show.amount(content['size_bytes'])}")
    if content.get("files_path"):
        show.print_line(f"wrote {show.cell('', content['files_path'])}, {show.amount(content['files_bytes'])}")
    for name in content.get("keep_as_well", ()):
        show.print_line(f"keep as well: {show.cell('', name)}")


def _audit(content: Content) -> None:
    show.print_line(f"{content['rows']} rows: {content['meaning']}")
    if not content["intact"] and content.get("broken_seq") is not None:
        show.print_line(f"the first row that is wrong: {content['broken_seq']}")


def _new_key(content: Content) -> None:
    show.print_line(str(content["token"]))
    ends = (
        "never ends" if content.get("expires_at") is None else f"ends {show.cell('expires_at', content['expires_at'])}"
    )
    show.say(f"{content['id']} for {content['principal']}, {ends}. It is shown this once: keep it now.")


def _keys(content: Content) -> None:
    if not content["keys"]:
        show.say("none")
        return
    rows = [{**one, **{name: one.get(name) or "all" for name in ("spaces", "operations")}} for one in content["keys"]]
    show.print_table(rows, KEY_COLUMNS)


def _secrets(content: Content) -> None:
    if not content["secrets"]:
        show.say("no secrets")
        return
    rows = [
        {**one, "fields": ", ".join(one["fields"]), "origins": ", ".join(one["origins"])} for one in content["secrets"]
    ]
    show.print_table(rows, SECRET_COLUMNS)


def _secret(content: Content) -> None:
    show.print_line(f"{content['path']} is stored, version {content['version']}")
    for warning in content.get("warnings") or ():
        show.say(f"warning: {warning}")


def _shown(content: Content) -> None:
    show.print_prose(str(content["value"]))


def _code(content: Content) -> None:
    show.print_line(str(content["code"]))
    show.say(f"for {content['expires_in_s']:g} s")


def _imported(content: Content) -> None:
    for path in content["paths"]:
        show.print_line(show.cell("", path))
    for item in content["skipped"]:
        show.say(f"skipped {item}")
    show.say(f"{len(content['paths'])} secrets {'would be' if content['dry_run'] else 'are'} stored")


def _indented(input_json: str) -> str:
    try:
        lines = json.dumps(json.loads(input_json), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        lines = [input_json]
    return "\n".join("  " + line for line in lines)


SHOWN: Mapping[str, Callable[[Content], None]] = {
    "approval.deny": _decided,
    "approval.grant": _decided,
    "approval.list": _approvals,
    "audit.verify": _audit,
    "key.create": _new_key,
    "key.list": _keys,
    "job.read": _job,
    "pin.clear": _pin,
    "pin.set": _pin,
    "principal.list": _principals,
    "run.list": _runs,
    "run.read_artifact": _file,
    "sandbox.read_file": _file,
    "sandbox.shell": _shell,
    "space.delete": _deleted,
    "space.down": _started,
    "space.list": _spaces,
    "space.up": _started,
    "state.backup": _backup,
    "storage.browse": _files,
    "storage.delete": _gone,
    "storage.read": _file,
    "vault.get": _shown,
    "vault.import": _imported,
    "vault.list": _secrets,
    "vault.restore": _secret,
    "vault.set": _secret,
    "vault.totp": _code,
    "vault.update": _secret,
}
