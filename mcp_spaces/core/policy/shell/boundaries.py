"""Where words, keywords and commands begin and end for bash. The grammar is laxer: what it reads otherwise is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from mcp_spaces.core.policy.shell.words import Unparsable

if TYPE_CHECKING:
    from tree_sitter import Node

RESERVED = frozenset("! if then elif else fi case esac for select while until do done in function { } [[ ]]".split())
# The grammar runs on in them over a line end that a continued line follows, where bash begins another command.
ONE_LINE = frozenset(
    "command declaration_command unset_command redirected_statement file_redirect herestring_redirect"
    " variable_assignments negated_command".split()
)
_KEYWORDS = RESERVED | {"[", "]"}
# After these, so many words on, any kind of command may begin. The grammar reads words of a simple one there.
_BEFORE_ANY_COMMAND = {b"time": 1, b"coproc": 2}
_BETWEEN_WORDS = frozenset({b"", *(bytes([char]) for char in b" \t\n;|&()<>")})
# In these, braces and names are parts of a word.
_WITHIN_WORDS = frozenset({"expansion", "brace_expression", "concatenation", "unary_expression", "subscript", "array"})
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LONGEST_DESCRIPTOR = 200
_DESCRIPTOR = re.compile(rb"(?:\A|(?<![^ \t\n;|&()<>]))(?:\d+|\{?\w+(?:\[.*\])?\})\Z", re.DOTALL)


def word_ends(text: bytes, node: Node) -> bool:
    """Does a word end for bash where it does for the grammar, not where the next quote or substitution begins?"""
    after = text[node.end_byte : node.end_byte + 1]
    if after != b"`":
        return after in _BETWEEN_WORDS
    around = _substitution(node)
    return around is not None and around.end_byte == node.end_byte + 1


def _word_begins(text: bytes, node: Node) -> bool:
    before = text[max(node.start_byte - 1, 0) : node.start_byte]
    if before != b"`":
        return before in _BETWEEN_WORDS
    around = _substitution(node)
    return around is not None and around.start_byte == node.start_byte - 1


def _substitution(node: Node) -> Node | None:
    around = node.parent
    while around is not None and around.type != "command_substitution":
        around = around.parent
    return around


def check_mark(text: bytes, node: Node, *, parent: str) -> None:
    """`node`: a token without a name. To bash `{x`, `[x` and `x}` are words, and `if` or `export` within one is none."""
    end = node.end_byte
    if node.type == "$" and text.startswith(b"\\\n", end):
        raise Unparsable("a line continuation stands behind a $")
    if parent in _WITHIN_WORDS or not (node.type in _KEYWORDS or node.type.isalpha()):
        return
    ends = word_ends(text, node) or text[end : end + 2] == b"\\\n"
    if not ends or not _word_begins(text, node):
        raise Unparsable(f"{node.type!r} stands beside another word")


def check_lines(text: bytes, children: Sequence[Node]) -> None:
    for child, following in pairwise(children):
        between = text[child.end_byte : following.start_byte]
        if b"\n" in between.replace(b"\\\n", b""):
            raise Unparsable("a line end stands between the words of a command")


def check_joined(children: Sequence[Node]) -> None:
    """`$ x`, `a[1] =x`: no blank may stand within."""
    if any(child.end_byte != following.start_byte for child, following in pairwise(children)):
        raise Unparsable("a blank stands within an expansion or an assignment")


def is_assignment(source: str) -> bool:
    """Of what has blanks, as in `for ((i = 0; …))`, or a subscript that may hold brackets: does that end before the `=`?"""
    name = _NAME.match(source)
    if name is None:
        return False
    at = name.end()
    depth = 0
    while at < len(source) and (depth or source[at] == "["):
        depth += (source[at] == "[") - (source[at] == "]")
        at += 1
        if not depth:
            break
    return source[at:].lstrip(" \t\n").startswith(("=", "+="))


def check_simple(text: bytes, command: Node) -> None:
    """`time [[ … ]]`: what stands there is not the words that the grammar makes of it."""
    if not text.startswith(tuple(_BEFORE_ANY_COMMAND), command.start_byte):
        return
    # Bytes: no character but ASCII's blanks divides words, as more would in a text.
    first, *rest = text[command.start_byte : command.end_byte].split()
    operands = [word.decode() for word in rest if not word.startswith(b"-")]
    if RESERVED.intersection(operands[: _BEFORE_ANY_COMMAND.get(first, 0)]) - {"!"}:
        raise Unparsable(f"{first.decode()} stands before more than a simple command")


def check_descriptor(text: bytes, redirection: Node) -> None:
    """`ls {x}>f` sets x, `sh 0<f` has no argument. The grammar makes a word of either."""
    start = redirection.start_byte
    if _DESCRIPTOR.search(text[max(start - _LONGEST_DESCRIPTOR, 0) : start]):
        raise Unparsable("a redirection's number is a variable, or 0; write another, or none")


def check_closing(redirection: Sequence[Node], *, target: str) -> None:
    """`>& -x` is `>&-` to bash, and x a word of the command."""
    if target.startswith("-") and target != "-" and any(child.type in {">&", "<&"} for child in redirection):
        raise Unparsable("words of the command follow a redirection; put redirections last")
