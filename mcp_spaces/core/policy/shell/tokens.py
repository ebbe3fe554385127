"""Single tokens of a script: what of the grammar's kinds bash reads in the same way."""

from __future__ import annotations

import re

# bash joins continued lines within a word and a string first, so that `$` expands what stands behind them.
_NO_EXPANSION = r"\$(?!\\\n|[\w@*#?$!({\[-])"
_TOKENS: dict[str, re.Pattern[str]] = {
    "word": re.compile(rf"(?:[^ \t\n;|&()<>\"'`$\\]|\\[^\n]|{_NO_EXPANSION})*\Z", re.ASCII),
    "string_content": re.compile(rf"(?:[^\"`$\\]|\\.|{_NO_EXPANSION})*\Z", re.ASCII | re.DOTALL),
    "heredoc_content": re.compile(rf"(?:[^`$\\]|\\.|{_NO_EXPANSION})*\Z", re.ASCII | re.DOTALL),
    "raw_string": re.compile(r"'[^']*'\Z"),
    "ansi_c_string": re.compile(r"\$'(?:[^'\\]|\\.)*'\Z", re.DOTALL),
    "regex": re.compile(r"(?:[^\n`$\\;&\"']|\\.|\$(?![({]))*\Z"),
    "extglob_pattern": re.compile(r"(?:[^\n`$\\;&()\"']|\\.)*\Z"),
    "variable_name": re.compile(r"\w+\Z", re.ASCII),
    "special_variable_name": re.compile(r"[\w@*#?$!-]\Z", re.ASCII),
    "number": re.compile(r"-?(0[xX])?[0-9A-Fa-f]+(#\w+)?\Z", re.ASCII),
    "file_descriptor": re.compile(r"\d+\Z|\{\w+\}\Z", re.ASCII),
    "test_operator": re.compile(r"[-=!<>~\w]+\Z", re.ASCII),
    "comment": re.compile(r"#[^\n]*\Z"),
    "heredoc_start": re.compile(r"\w+\Z|'\w+'\Z|\"\w+\"\Z|\\\w+\Z", re.ASCII),
    "heredoc_end": re.compile(r"\w+\Z", re.ASCII),
}


def reads_alike(kind: str, source: str) -> bool:
    """Whether `source` is one token of this kind to bash, too. Kinds that are not known are not."""
    pattern = _TOKENS.get(kind)
    return pattern is not None and pattern.match(source) is not None
