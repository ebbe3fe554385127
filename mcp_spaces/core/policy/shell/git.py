"""What a git command line does that deserves a verdict: push, clean, and the many ways to make git run programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.dangers import Danger, Finding, has_flag, long_option, operands_of
from mcp_spaces.core.policy.shell.prefixes import Inner, RunsText, RunsWords
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

# Of these a variable may be the value, in the same word. What another option would be is only known when it runs.
_VALUED_BY_VARIABLE = ("--git-dir=", "--work-tree=", "--namespace=")
_VALUED = frozenset({"-C", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--attr-source", "--list-cmds"})
# Settings that name no program. Any other, given on the command line, may run one: core.pager, alias.x, filter.y.clean …
_HARMLESS_SETTING = re.compile(
    r"(?:user|author|committer|color|advice|log|status|format|fetch|pull|push|branch|gc|index|pack|column|commit|tag|rebase"
    r"|http|https|safe|init\.defaultbranch|core\.(?:autocrlf|quotepath|safecrlf|abbrev|eol|filemode|ignorecase|longpaths"
    r"|symlinks|precomposeunicode|compression|bare|logallrefupdates)|diff\.(?:renames|context|algorithm|noprefix)"
    r"|merge\.(?:conflictstyle|ff|renames)|submodule\.recurse|versionsort|feature|maintenance|rerere|stash|blame)"
    r"(?:\..*)?(?:=.*)?\Z",
    re.IGNORECASE | re.DOTALL,
)
_NOT_HARMLESS = re.compile(
    r"^(?:gpg|.*\.(?:program|cmd|command|driver|textconv|helper|template|\w*hook))", re.IGNORECASE
)
_READS_SETTINGS = (
    "--get",
    "--get-all",
    "--get-regexp",
    "-l",
    "--list",
    "--unset",
    "--unset-all",
    "get",
    "list",
    "unset",
)
_VALUED_CONFIG = frozenset({"-f", "--file", "--blob", "-t", "--type", "--comment", "--default", "--value"})
_PACK_OPTIONS = ("--upload-pack", "--receive-pack")
_PACK_COMMANDS = frozenset(
    {"clone", "fetch", "pull", "ls-remote", "archive", "send-pack", "fetch-pack", "submodule", "remote"}
)
_RUNS_PROGRAMS = frozenset(
    "filter-branch for-each-repo instaweb daemon shell hook credential send-email mergetool cvsserver remote-ext gui citool web--browse".split()
)


def _opens_pager(text: str) -> bool:
    return text.startswith("-O") or long_option(text, "--open-files-in-pager", least=6)


def _harmless(setting: str) -> bool:
    key = setting.partition("=")[0]
    return bool(_HARMLESS_SETTING.match(setting)) and not _NOT_HARMLESS.match(key)


def git(arguments: Sequence[Word], *, command: str) -> Iterator[Finding | Inner]:
    """Findings and inner commands of `git ARGUMENTS`."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if not word.fixed:
            if word.splits or not word.text.startswith(_VALUED_BY_VARIABLE):
                yield Danger.DYNAMIC_COMMAND
                return
        elif not word.text.startswith("-"):
            break
        elif word.text == "-c":
            setting = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
            if not _harmless(setting.text) or not setting.literal and "=" not in setting.text:
                yield Finding(Danger.HIDDEN_COMMAND, command)
            place += 1
        elif word.text.startswith("-c") or word.text.startswith(("--config-env", "--exec-path=")):
            yield Finding(Danger.HIDDEN_COMMAND, command)
        elif word.text in _VALUED:
            place += 1
        place += 1
    if place < len(arguments):
        yield from _subcommand(arguments[place].text, arguments[place + 1 :], command=command)


def _subcommand(name: str, arguments: Sequence[Word], *, command: str) -> Iterator[Finding | Inner]:
    texts = [word.text for word in arguments]
    if any(text.startswith(("ext::", "fd::")) for text in texts):
        yield Finding(Danger.HIDDEN_COMMAND, command)
    if (
        name in {"push", "send-pack", "http-push"}
        or name in {"subtree", "svn", "lfs"}
        and {"push", "dcommit"} & set(texts)
    ):
        yield Finding(Danger.GIT_PUSH, command)
    if name == "clean":
        yield from _clean(arguments, command=command)
    elif name == "rm" and has_flag(texts, "r", "--recursive") and not has_flag(texts, "", "--cached"):
        listed = has_flag(texts, "", "--pathspec-from-file")
        yield Finding(Danger.RECURSIVE_DELETE, command, () if listed else operands_of(arguments))
    elif name == "config":
        yield from _config(arguments, command=command)
    elif name == "bisect" and texts[:1] == ["run"]:
        yield RunsWords(tuple(arguments[1:]) or (UNKNOWN,))
    elif name == "submodule" and "foreach" in texts:
        rest = [
            word
            for word in arguments[texts.index("foreach") + 1 :]
            if word.text not in {"--recursive", "--quiet", "-q"}
        ]
        yield from _joined(rest)
    elif name == "rebase":
        yield from _values(arguments, "-x", "--exec")
    elif name == "difftool":
        # Without one of them it runs what some setting names.
        yield from _values(arguments, "-x", "--extcmd")
        if not list(_values(arguments, "-x", "--extcmd")) and texts != ["--tool-help"]:
            yield Finding(Danger.HIDDEN_COMMAND, command)
    elif name in _RUNS_PROGRAMS or name == "grep" and any(map(_opens_pager, texts)):
        yield Finding(Danger.HIDDEN_COMMAND, command)
    if name in _PACK_COMMANDS | {"push"}:
        packs = any(long_option(text, option, least=6) for text in texts for option in (*_PACK_OPTIONS, "--exec"))
        if packs or name in {"clone", "ls-remote"} and any(text == "-u" or text.startswith("-u") for text in texts):
            yield Finding(Danger.HIDDEN_COMMAND, command)
    if name in {"clone", "init"}:
        settings = [arguments[at + 1].text for at, text in enumerate(texts[:-1]) if text in {"-c", "--config"}]
        settings += [text.partition("=")[2] for text in texts if text.startswith("--config=")]
        if not all(map(_harmless, settings)) or any(text.startswith("--template") for text in texts):
            yield Finding(Danger.HIDDEN_COMMAND, command)


def _clean(arguments: Sequence[Word], *, command: str) -> Iterator[Finding]:
    """A pattern of `-e` is what stays: it is no tree that goes, and no option either."""
    rest: list[Word] = []
    place = 0
    while place < len(arguments):
        word = arguments[place]
        letters, excludes, pattern = word.text.partition("e")
        if word.text == "--":
            rest += arguments[place:]
            break
        if word.literal and long_option(word.text, "--exclude", least=3):
            place += "=" not in word.text
        elif word.literal and excludes and re.match(r"-[a-zX]", word.text):
            rest.append(Word(letters))
            place += not pattern
        else:
            rest.append(word)
        place += 1
    texts = [word.text for word in rest]
    if has_flag(texts, "dfxX", "--force") and not has_flag(texts, "n", "--dry-run"):
        yield Finding(Danger.RECURSIVE_DELETE, command, operands_of(rest))


def _config(arguments: Sequence[Word], *, command: str) -> Iterator[Finding]:
    texts = [word.text for word in arguments]
    if any(text in _READS_SETTINGS for text in texts[:3]):
        return
    if any(text in {"-e", "--edit", "edit", "--rename-section", "rename-section"} for text in texts[:3]):
        yield Finding(Danger.HIDDEN_COMMAND, command)
        return
    values = {place + 1 for place, text in enumerate(texts) if text in _VALUED_CONFIG}
    operands = operands_of([word for place, word in enumerate(arguments) if place not in values])
    if [word.text for word in operands[:1]] in (["set"], ["add"]):
        operands = operands[1:]
    # The key alone decides: a value may look like a harmless key.
    if len(operands) > 1 and not (operands[0].fixed and "=" not in operands[0].text and _harmless(operands[0].text)):
        yield Finding(Danger.HIDDEN_COMMAND, command)


def _joined(words: Sequence[Word]) -> Iterator[Inner]:
    if all(word.fixed for word in words):
        yield RunsText(" ".join(word.text for word in words))
    else:
        yield Danger.DYNAMIC_COMMAND


def _values(arguments: Sequence[Word], short: str, long: str) -> Iterator[Inner]:
    for place, word in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
        if re.match(rf"-[a-z]*{short[1:]}", word.text):
            # Letters may stand together: `-ix COMMAND`.
            value = word.text.partition(short[1:])[2]
            yield from _joined([Word(value, word.literal) if value else following])
        elif long_option(word.text, long, least=4):
            value = word.text.partition("=")[2]
            yield from _joined([Word(value, word.literal) if value else following])
