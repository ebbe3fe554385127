"""What a single command could do that deserves a verdict of its own, whoever may run the program."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mcp_spaces.core.policy.shell import awk, sed
from mcp_spaces.core.policy.shell.words import Word

WORKSPACE = "/workspace"


class Danger(StrEnum):
    """Each is a key of a policy's `shell` section with a verdict."""

    DYNAMIC_COMMAND = "dynamic_command"
    """What runs is only known when it runs: a variable, a substitution or a pattern where a command is expected."""
    HIDDEN_COMMAND = "hidden_command"
    """An option or a script makes an ordinary program run another one, in a way that is not judged word for word."""
    EXECUTION_VARIABLES = "execution_variables"
    """A variable is set that changes which code a program runs: PATH, LD_PRELOAD, BASH_ENV …"""
    OUTSIDE_PROGRAMS = "outside_programs"
    """A program by a path that is neither in the system's program folders nor in the workspace."""
    RECURSIVE_DELETE = "recursive_delete"
    """A whole tree is removed, and it is not surely inside a build folder."""
    RECURSIVE_PERMISSIONS = "recursive_permissions"
    SETUID_BITS = "setuid_bits"
    GIT_PUSH = "git_push"
    PUBLISH = "publish"


@dataclass(frozen=True, slots=True)
class Finding:
    """A danger, and the command that holds it. `operands`: the trees that a recursive delete names."""

    danger: Danger
    command: str
    operands: tuple[Word, ...] = ()


def dangers(name: str, arguments: Sequence[Word], *, command: str) -> Iterator[Finding]:
    """The dangers of running program `name`, a bare name, with these arguments."""
    texts = [word.text for word in arguments]
    # `-$x`, `-{r,f}`: any option.
    unknown = any(word.text.startswith("-") and not word.literal for word in arguments)
    if name == "rimraf" or name == "rm" and (unknown or has_flag(texts, "rR", "--recursive")):
        yield Finding(Danger.RECURSIVE_DELETE, command, operands_of(arguments))
    elif name in {"chmod", "chown", "chgrp"} and (unknown or has_flag(texts, "R", "--recursive")):
        yield Finding(Danger.RECURSIVE_PERMISSIONS, command)
    if name in {"chmod", "install", "mkdir"} and any(map(_sets_bits, texts)):
        yield Finding(Danger.SETUID_BITS, command)
    if name == "find" and "-delete" in texts:
        yield Finding(Danger.RECURSIVE_DELETE, command, tuple(_find_roots(arguments)))
    if _publishes(name, texts):
        yield Finding(Danger.PUBLISH, command)
    if name == "sed" and "--sandbox" not in texts and any(map(sed.executes, sed.scripts_of(texts))):
        yield Finding(Danger.HIDDEN_COMMAND, command)
    if name in {"awk", "gawk", "mawk", "nawk"} and awk.executes(arguments):
        yield Finding(Danger.HIDDEN_COMMAND, command)
    if name == "tar" and (
        any(long_option(text, "--checkpoint-action", least=13) for text in texts)
        # The old style, `tar xIf gzip x`: letters first, their values after.
        or texts
        and not texts[0].startswith("-")
        and set(texts[0]) & set("IF")
    ):
        yield Finding(Danger.HIDDEN_COMMAND, command)


def has_flag(texts: Sequence[str], letters: str, long: str) -> bool:
    """Is an option given, in a cluster (`-rf`), by its long name or by an abbreviation of that?"""
    for text in texts:
        if text.startswith("--"):
            if text == "--":
                return False
            if long_option(text, long, least=3):
                return True
        elif text.startswith("-") and any(letter in text for letter in letters):
            return True
    return False


def long_option(text: str, long: str, *, least: int) -> bool:
    """GNU programs take any unambiguous beginning of a long option. `least` counts the two dashes."""
    given = text.partition("=")[0]
    return len(given) >= least and long.startswith(given)


def operands_of(arguments: Sequence[Word]) -> tuple[Word, ...]:
    """The arguments that are not options; after `--`, all."""
    found: list[Word] = []
    for place, word in enumerate(arguments):
        if word.text == "--" and word.fixed:
            return (*found, *arguments[place + 1 :])
        if not word.literal or not word.text.startswith("-"):
            found.append(word)
    return tuple(found)


def inside_folders(word: Word, folders: Sequence[str]) -> bool:
    """Is the tree surely inside (or itself) one of the folders, seen from the workspace? Patterns may only end it."""
    if not word.literal:
        return False
    path = word.text.removeprefix(WORKSPACE + "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        return False
    plain: list[str] = []
    for part in parts:
        if word.glob and any(char in part for char in "*?["):
            break
        plain.append(part)
    return any(_is_folder(part, folder) for part in plain for folder in folders) or (
        # `*.egg-info` as a pattern names nothing but such folders.
        len(parts) == len(plain) + 1 and parts[-1] in folders
    )


def _is_folder(part: str, folder: str) -> bool:
    return part == folder or folder.startswith("*") and part.endswith(folder[1:])


def is_outside(path: str) -> bool:
    """Is a program neither in the workspace nor in one of the system's program folders?"""
    normal = posixpath.normpath(path)
    if normal.startswith("/"):
        return not normal.startswith(WORKSPACE + "/") and posixpath.dirname(normal) not in SYSTEM_FOLDERS
    return normal.startswith("..") or path.startswith("~")


SYSTEM_FOLDERS = ("/bin", "/usr/bin", "/usr/local/bin")

_SYMBOLIC_BITS = re.compile(r"(?:^|,)[ugoa]*[+=][rwxXt]*s")
_OCTAL_BITS = re.compile(r"0*[2-7][0-7]{3}\Z")


def _sets_bits(text: str) -> bool:
    mode = re.sub(r"^(?:-\w*m|--mode=)", "", text)
    return bool(_SYMBOLIC_BITS.search(mode) or _OCTAL_BITS.match(mode))


def _find_roots(arguments: Sequence[Word]) -> Iterator[Word]:
    for word in arguments:
        if word.literal and word.text[:1] in {"-", "(", "!"}:
            return
        yield word


_PUBLISHERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("npm", "pnpm", "yarn", "bun", "deno", "cargo", "uv", "poetry", "pdm", "hatch", "flit", "lerna", "vsce"),
        ("publish", "unpublish", "yank", "dist-tag", "deprecate"),
    ),
    "twine": ("upload",),
    "gem": ("push", "yank"),
    "docker": ("push",),
    "podman": ("push",),
    "helm": ("push",),
    "dotnet": ("push",),
    **dict.fromkeys(("mvn", "mvnw"), ("deploy", "release:perform")),
    **dict.fromkeys(("gradle", "gradlew"), ("publish", "publishPlugins")),
    "gh": ("release",),
    "changeset": ("publish",),
    "jsr": ("publish",),
}


def _publishes(name: str, texts: Sequence[str]) -> bool:
    verbs = _PUBLISHERS.get(name, ())
    before = list(texts[: texts.index("--")] if "--" in texts else texts)
    # A task of a part of the build is named with its path: `:lib:publish`.
    return any(text in verbs or text.startswith(":") and text.rpartition(":")[2] in verbs for text in before)
