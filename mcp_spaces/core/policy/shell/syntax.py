"""Commands out of shell syntax: everything that a script could run, wherever it stands in it.

The grammar is tree-sitter's bash. It is close to bash, not equal: it takes `\\ # ; sudo x` for a blank and a
comment, hides backticks in `${x//a/`id`}`, and lets a quote in `"${x:-'}"` swallow the rest of the line. So
every byte is looked at a second time: each token must be one that bash reads the same way, and between tokens
there may be nothing but blanks. What fails that is `Unparsable`, and policy denies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from mcp_spaces.core.policy.shell.arithmetic import variables_set
from mcp_spaces.core.policy.shell.boundaries import (
    ONE_LINE,
    RESERVED,
    check_closing,
    check_descriptor,
    check_joined,
    check_lines,
    check_mark,
    check_simple,
    is_assignment,
    word_ends,
)
from mcp_spaces.core.policy.shell.grammar import tree_of
from mcp_spaces.core.policy.shell.script import Assignment, Command, Redirection, Script
from mcp_spaces.core.policy.shell.tokens import reads_alike
from mcp_spaces.core.policy.shell.words import UNKNOWN, Unparsable, Word, unquote

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_SCRIPT_BYTES = 64 * 1024


# Everything that hides text from a reader, or that bash and the grammar take differently: controls other than
# tab and newline (a shell takes \r as part of the word), line separators, and marks that turn the writing direction.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A line continuation counts as a blank only beside one: elsewhere bash joins what stands around it. The grammar
# drops a lone `-` before a here-document.
_BLANK = re.compile(rb"(?:[ \t\n]+|(?<=[ \t\n;|&()])\\\n|\\\n(?=[ \t]))*(?:(?<=[ \t])-[ \t]*(?=<<))?")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?\+?=", re.ASCII)
_WORDS = frozenset(
    "word string raw_string ansi_c_string concatenation number simple_expansion expansion command_substitution"
    " process_substitution arithmetic_expansion brace_expression translated_string".split()
)
_QUOTING = frozenset({"raw_string", "ansi_c_string"})
# Places in which quotes or `#` mean something else than in plain text.
_INSIDE = frozenset({"arithmetic_expansion", "string", "heredoc_body", "c_style_for_statement"})
_NO_COMMENT = _INSIDE | {"expansion", "concatenation", "test_command", "simple_expansion", "subscript"}
_EVALUATES = frozenset({"test_command", "declaration_command", "unset_command", "subscript", "(("})


def parse(source: str, *, strict_sh: bool = False) -> Script:
    """Every command, assignment and redirection that `source` could perform.

    `strict_sh`: the script goes to a shell that may not be bash, so bash's own syntax is refused.

    Raises:
        Unparsable: not valid, over 64 KiB, or bash could read it otherwise than this function.
    """
    if hidden := _HIDDEN.search(source):
        raise Unparsable(f"the character U+{ord(hidden.group()):04X} stands in it")
    if len(source) > MAX_SCRIPT_BYTES or len(source.encode()) > MAX_SCRIPT_BYTES:
        raise Unparsable("it is longer than 64 KiB")
    tree = tree_of(source)
    if tree.root.has_error:
        raise Unparsable("it is not valid shell syntax, or not of a kind that is understood here")
    return _Reading(source.encode(), tree.text, strict_sh=strict_sh).script(tree.root)


class _Reading:
    """One walk over one tree."""

    def __init__(self, text: bytes, tokens: bytes, *, strict_sh: bool) -> None:
        """`tokens`: the same text where single tokens are looked at; see Tree."""
        self.text = text
        self.tokens = tokens
        self.strict_sh = strict_sh
        self.functions: dict[str, int] = {}
        self.commands: list[tuple[int, Command]] = []
        self.assignments: list[Assignment] = []
        self.declarations: list[Command] = []
        self.redirections: list[Redirection] = []
        self.evaluated: list[str] = []
        self.loops = 0
        """Those around the walk that go over names which only a program's output tells."""
        self.covered = 0

    def script(self, root: Node) -> Script:
        self._walk(root, ())
        self._gap(len(self.text))
        commands = tuple(
            replace(command, is_function=self.functions.get(command.name, start) < start)
            for start, command in self.commands
        )
        return Script(
            commands,
            tuple(self.assignments),
            tuple(self.declarations),
            tuple(self.redirections),
            tuple(self.evaluated),
        )

    def _source(self, node: Node) -> str:
        return self.text[node.start_byte : node.end_byte].decode()

    def _gap(self, end: int) -> None:
        blank = _BLANK.match(self.text, self.covered)
        if blank is None or blank.end() < end:
            raise Unparsable("a line continuation or an escaped blank stands between words")

    def _walk(self, node: Node, path: tuple[str, ...]) -> None:
        kind = node.type
        children = node.children
        if self.strict_sh and kind == "string" and self.text[max(node.start_byte - 1, 0) : node.start_byte] == b"$":
            # A plain sh leaves the `$` of `$"x"` where it is, and `eval` finds it there.
            raise Unparsable("bash syntax in a script for sh")
        if not children:
            self._token(node, path)
            return
        if kind in ONE_LINE:
            check_lines(self.text, children)
        if kind == "command":
            self._command(node, children)
        elif kind == "variable_assignment":
            if not {"c_style_for_statement", "arithmetic_expansion"} & set(path):
                check_joined(children)
            if not path or path[-1] not in {"command", "declaration_command"}:
                self.assignments.append(self._assignment(node))
        elif kind == "file_redirect":
            check_descriptor(self.text, node)
            closes = any(child.type in {">&-", "<&-"} for child in children)
            if sum(child.is_named and child.type != "file_descriptor" for child in children) != (not closes):
                raise Unparsable("words of the command follow a redirection; put redirections last")
            if closes:
                self._ends(node)
            else:
                self.redirections.append(Redirection(self._word(children[-1])))
                check_closing(children, target=self._source(children[-1]))
        elif kind == "function_definition":
            self._function(node, path)
        elif kind == "heredoc_redirect":
            check_descriptor(self.text, node)
            self._heredoc(node, children)
        elif kind == "command_substitution" and children[0].type.strip() == "`":
            inside = self.text[children[0].end_byte : node.end_byte - 1]
            if b"\\" in inside or b"`" in inside:
                raise Unparsable("backticks hold a backslash; write $(…)")
        elif kind in {"declaration_command", "unset_command"}:
            self._declaration(children)
        elif kind == "for_statement":
            self._loop(node)
        elif kind == "array":
            self._array(node, children)
        elif kind == "herestring_redirect":
            check_descriptor(self.text, node)
        elif kind == "simple_expansion":
            check_joined(children)
        elif kind == "expansion":
            self._expansion(node, children)
        self._arithmetic(node, children)
        if len(path) > 200:
            raise Unparsable("it is nested too deeply")
        if self.strict_sh and children[0].type in {"((", "[["}:
            raise Unparsable("bash syntax in a script for sh")
        below = (*path, "((" if children[0].type == "((" else kind)
        loops = kind in {"while_statement", "for_statement"} and self._goes_over_output(children)
        for child in children:
            if kind == "heredoc_body":
                self.covered = max(self.covered, child.start_byte)
            self.loops += loops and child.type == "do_group"
            self._walk(child, below)
            self.loops -= loops and child.type == "do_group"
        if kind == "heredoc_body":
            self.covered = node.end_byte

    def _token(self, node: Node, path: tuple[str, ...]) -> None:
        kind = node.type
        if node.start_byte > self.covered:
            self._gap(node.start_byte)
        self.covered = max(self.covered, node.end_byte)
        if not node.is_named:
            check_mark(self.text, node, parent=path[-1] if path else "")
            return
        source = self.tokens[node.start_byte : node.end_byte].decode()
        if kind == "heredoc_body":
            return
        if kind in {"string", "array", "program", "compound_statement", "subshell"} and not source.strip('"() \t\n'):
            return
        if not reads_alike(kind, source):
            raise Unparsable(f"{source[:40]!r} could be read in several ways")
        if kind in _QUOTING:
            if any(place in _INSIDE for place in _since_substitution(path)):
                raise Unparsable("quotes inside an expansion inside quotes")
            if self.strict_sh and kind == "ansi_c_string":
                raise Unparsable("bash syntax in a script for sh")
            if any(place in _EVALUATES for place in path):
                self.evaluated.append(source)
        elif kind == "string_content" and any(place in _EVALUATES for place in path):
            self.evaluated.append(source.replace("\\", ""))
        elif kind == "comment":
            self._comment(node, path)

    def _comment(self, node: Node, path: tuple[str, ...]) -> None:
        """bash begins a comment only where a word could begin, and ends it with the line."""
        before = self.text[max(node.start_byte - 2, 0) : node.start_byte]
        if before and before[-1:] not in b" \t\n;|&()" or before.startswith(b"\\") and len(before) == 2:
            raise Unparsable("a # that may not begin a comment")
        if any(place in _NO_COMMENT for place in _since_substitution(path)):
            raise Unparsable("a # that may not begin a comment")

    def _command(self, node: Node, children: list[Node]) -> None:
        words: list[Word] = []
        assignments: list[Assignment] = []
        end = -1
        for child, following in zip_longest(children, children[1:]):
            kind = child.type
            if kind == "variable_assignment":
                assignments.append(self._assignment(child))
            elif kind == "file_redirect" or kind == "herestring_redirect":
                continue
            elif kind == "subshell":
                raise Unparsable("a subshell stands where an argument is expected")
            elif words and child.start_byte == end:
                # `a`b`` is one word to bash, and two to the grammar.
                words[-1] = replace(words[-1], literal=False, splits=True)
                end = child.end_byte
            else:
                end = child.end_byte
                continued = following is not None and following.start_byte == end
                words.append(self._word(child, continued=continued and self.text[end : end + 1] == b"`"))
                if len(words) == 1 and self._source(child) in RESERVED:
                    raise Unparsable(f"{words[0].text!r} stands where a command is expected")
        if words:
            check_simple(self.text, node)
            command = Command(tuple(words), tuple(assignments), over_output=self.loops > 0)
            self.commands.append((node.start_byte, command))
        else:
            self.assignments.extend(assignments)

    def _word(self, node: Node, *, continued: bool = False) -> Word:
        """`continued`: what stands right behind it may be the rest of it."""
        if node.type == "process_substitution":
            return UNKNOWN
        if not continued:
            self._ends(node)
        return unquote(self._source(node).strip(" \t"))

    def _ends(self, node: Node) -> None:
        if not word_ends(self.text, node):
            raise Unparsable(f"{self._source(node)[:40]!r} could be read in several ways")

    def _assignment(self, node: Node) -> Assignment:
        self._ends(node)
        source = self._source(node)
        head = _ASSIGNMENT.match(source)
        if head is None and not is_assignment(source):
            raise Unparsable(f"{source[:40]!r} looks like an assignment, but is a command")
        if head is None:
            # A subscript that is not plain may hold anything; its substitutions are walked on their own.
            return Assignment(source.split("[")[0], UNKNOWN)
        value = source[head.end() :]
        return Assignment(head.group(1), UNKNOWN if value.startswith("(") else unquote(value))

    def _array(self, node: Node, children: list[Node]) -> None:
        """Each element counts as if it were all that the variable is given."""
        name = re.split(r"\W", self._source(node.parent), maxsplit=1)[0] if node.parent is not None else ""
        elements = [child for child in children if child.type in _WORDS]
        self.assignments.extend(Assignment(name, self._word(element)) for element in elements)

    def _loop(self, node: Node) -> None:
        """`for` and `select` set their variable to each word in turn."""
        variable = node.child_by_field_name("variable")
        if variable is not None:
            name = self._source(variable)
            values = [self._word(value) for value in node.children_by_field_name("value")]
            self.assignments.extend(Assignment(name, value) for value in values or [UNKNOWN])

    def _declaration(self, children: list[Node]) -> None:
        """`export x=1`, `unset x`: the grammar has nodes of their own for these builtins, where their name is plain."""
        words = [self._declared(child) for child in children if child.is_named]
        self.declarations.append(Command((Word(children[0].type), *words)))

    def _declared(self, node: Node) -> Word:
        if node.type != "variable_assignment":
            return self._word(node)
        given = self._assignment(node)
        return replace(given.value, text=f"{given.name}={given.value.text}")

    def _arithmetic(self, node: Node, children: list[Node]) -> None:
        """What `((…))`, `$((…))`, a subscript, the head of a loop or `[[ … -eq … ]]` sets."""
        texts: list[str] = []
        if node.type in {"arithmetic_expansion", "subscript"} or children[0].type == "((":
            texts = [self._source(node)]
        elif node.type == "c_style_for_statement":
            texts = [self._source(child) for child in children if child.type != "do_group"]
        elif node.type == "binary_expression" and any(child.type == "test_operator" for child in children):
            texts = [self._source(node)]
        self.assignments.extend(_number(name) for text in texts for name in variables_set(text))

    def _goes_over_output(self, children: list[Node]) -> bool:
        """`while read f`, `for f in $(ls)`."""
        if children[0].type == "for":
            return any(child.type == "command_substitution" for child in children)
        waiting = [child for child in children if child.type != "do_group"]
        while waiting:
            node = waiting.pop()
            if node.type == "command_name" and self._source(node).strip() == "read":
                return True
            waiting += node.children
        return False

    def _expansion(self, node: Node, children: list[Node]) -> None:
        source = self._source(node)
        if source.endswith("@P}"):
            self.evaluated.append(source)
        elif any(child.type in {"=", ":="} for child in children):
            # `${x:=…}` sets x. What the words come to is not looked at, but for what is escaped in them.
            self.assignments.append(Assignment(re.split(r"\W", source[2:], maxsplit=1)[0], UNKNOWN))
            if "\\" in source or "'" in source:
                self.evaluated.append(source.replace("\\", "")[2:])

    def _function(self, node: Node, path: tuple[str, ...]) -> None:
        name = node.child_by_field_name("name")
        # Only where it surely is defined for what follows: not in a subshell, a branch or another function.
        if name is not None and path == ("program",) and not _in_background(node):
            self.functions.setdefault(self._source(name), node.start_byte)

    def _heredoc(self, node: Node, children: list[Node]) -> None:
        """The body begins after the line and ends at the first line that is the delimiter, in bash and here."""
        parts = {child.type: child for child in children}
        if any(child.type in _WORDS for child in children):
            raise Unparsable("words of the command follow a redirection; put redirections last")
        start, body, end = parts.get("heredoc_start"), parts.get("heredoc_body"), parts.get("heredoc_end")
        if start is None or body is None or end is None:
            raise Unparsable("a here-document that does not end")
        delimiter = self._source(start).strip("'\"\\")
        quoted = delimiter != self._source(start)
        line_end = self.text.find(b"\n", start.end_byte)
        if self.text[end.end_byte : end.end_byte + 1] not in (b"", b"\n") or self._source(end) != delimiter:
            raise Unparsable("a here-document that may end elsewhere")
        lines = self.text[line_end + 1 : end.end_byte].decode().split("\n")
        if "<<-" in parts:
            lines = [line.lstrip("\t") for line in lines]
        if line_end < 0 or line_end >= end.start_byte or delimiter in lines[:-1] or lines[-1] != delimiter:
            raise Unparsable("a here-document that may end elsewhere")
        if body.start_byte < line_end or not quoted and any(line.endswith("\\") for line in lines):
            raise Unparsable("a here-document that may end elsewhere")
        if not quoted:
            self._expanding_text(body)

    def _expanding_text(self, body: Node) -> None:
        """Between the expansions of a here-document there is plain text, most of it without a token of its own."""
        at = body.start_byte
        for start, end in [*((child.start_byte, child.end_byte) for child in body.children), (body.end_byte, 0)]:
            if not reads_alike("heredoc_content", self.text[at:start].decode()):
                raise Unparsable("a here-document whose expansions are not understood")
            at = end


def _number(name: str) -> Assignment:
    return Assignment(name, Word("0"))


def _in_background(node: Node) -> bool:
    return node.next_sibling is not None and node.next_sibling.type == "&"


def _since_substitution(path: tuple[str, ...]) -> Iterator[str]:
    """The places around a token, up to the command substitution it stands in: that begins anew."""
    for place in reversed(path):
        if place in {"command_substitution", "process_substitution"}:
            return
        yield place
