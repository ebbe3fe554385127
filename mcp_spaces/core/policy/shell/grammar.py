"""The tree that tree-sitter's bash makes of a script, from a text in which its known mistakes cannot happen.

What it is given is as long as the script, byte for byte, so that every node's place is a place in the script, too.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Query

# The grammar's scanner looks characters up in C's tables of 256 classes: above, it reads what lies behind them, and
# often crashes. It is given full stops instead, as many as there are bytes: part of a word for it as for bash, and of no
# name, number, keyword, operator or here-document's end.
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
# In `$a/$b.txt` it takes the second `$` for a text and `b.txt` for the next word, since that is longer than `b`. Full
# stops again, for this variable and for those after it in the same plain part of the word.
_CUT_OFF = '(concatenation "$" @dollar)'
_MAY_BE_CUT_OFF = re.compile(rb"[^\s;|&(]\$\w", re.ASCII)
_VARIABLE = re.compile(rb"\$(?:[A-Za-z_]\w*|\d)", re.ASCII)
_REST_OF_WORD = re.compile(rb"(?:\$(?:[A-Za-z_]\w*|\d)|[\w@%+=:,./^-]+)+", re.ASCII)
_ROUNDS = 8
"""Each one mends a part of every word; what is cut off in more parts than that is refused."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Tree:
    """`text`: the script with full stops for variables that the grammar would have cut off."""

    root: Node
    text: bytes


def tree_of(source: str) -> Tree:
    """`source` has an encoding: no half of a character."""
    text = source.encode()
    given = _BEYOND_ASCII.sub(lambda found: "." * len(found.group().encode()), source).encode()
    parser, cut_off = _grammar()
    root = parser.parse(given).root_node
    if not _MAY_BE_CUT_OFF.search(given):
        return Tree(root, text)
    from tree_sitter import QueryCursor

    shown, read = bytearray(given), bytearray(text)
    for _ in range(_ROUNDS):
        done = 0
        dollars = QueryCursor(cut_off).captures(root).get("dollar", [])
        for node in sorted(dollars, key=lambda node: node.start_byte):
            start = node.start_byte
            if start < done or (part := _REST_OF_WORD.match(given, start)) is None:
                continue
            done = end = part.end()
            stops = _VARIABLE.sub(lambda found: b"." * len(found.group()), given[start:end])
            shown[start:end] = read[start:end] = stops
        if not done:
            break
        given = bytes(shown)
        root = parser.parse(given).root_node
    return Tree(root, bytes(read))


def _grammar() -> tuple[Parser, Query]:
    """One parser a thread: loading the grammar costs milliseconds, and a parser is not to be shared."""
    grammar: tuple[Parser, Query] | None = getattr(_local, "grammar", None)
    if grammar is None:
        import tree_sitter_bash
        from tree_sitter import Language, Parser, Query

        language = Language(tree_sitter_bash.language())
        grammar = _local.grammar = Parser(language), Query(language, _CUT_OFF)
    return grammar
