"""A policy and a scope in a few sentences, for models."""

from __future__ import annotations

from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import NetworkMode, Scope

SHOWN = 12


def rules_in_words(policy: Policy, scope: Scope, *, names_commands: bool = False) -> list[str]:
    """What an agent should know before it tries. Short, as long as commands are not named one by one: these lines
    stand in every compact context."""
    files, shell = policy.files, policy.shell
    rules = []
    match files.access:
        case "none":
            rules.append("Files: no access.")
        case "read":
            rules.append(f"Files: read only, up to {files.max_file_bytes >> 20} MiB each.")
        case _:
            rules.append(f"Files: read and write, up to {files.max_file_bytes >> 20} MiB each.")
    if files.blocked_paths:
        rules.append(f"Never touch: {', '.join(files.blocked_paths[:SHOWN])}.")
    match shell.mode:
        case "none":
            rules.append("Shell: none.")
        case "curated":
            rules.append(
                f"Shell: {len(shell.commands)} known commands (coreutils, git, make, python, node, …),"
                f" at most {shell.timeout_s:g} s; policy_explain says whether one may run."
            )
            if names_commands:
                rules.append(f"The commands: {' '.join(sorted(shell.commands))}")
        case _:
            rules.append(f"Shell: everything but {', '.join(shell.blocked[:SHOWN])}; at most {shell.timeout_s:g} s.")
    if scope.network.mode is NetworkMode.NONE:
        rules.append("Network: none. Nothing can be downloaded or installed from outside.")
    else:
        rules.append(f"Network: {scope.network.mode}, only through the proxy that is set up.")
    if scope.vault.allow:
        seen = "shown only after a yes" if scope.vault.allow_raw_reads else "never shown"
        rules.append(f"Secrets: vault.list names those that you may use; their values are {seen}.")
        if scope.network.mode is not NetworkMode.NONE:
            rules.append(
                "To use one, write {{vault:PATH}} into a header of a request to http://HOST of its origin;"
                " the gateway puts it in and sends it on by https."
            )
    rules.append(
        "A refusal names its rule and what to do instead; approval_needed: ask a person, then repeat the call."
    )
    return rules
