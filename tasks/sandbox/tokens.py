"""The tokens of a literal, and the values of those that are numbers and strings."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from tasks.sandbox.bounds import MAX_TEXT, Refused, checked_int

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+ | \#[^\n]*)
      | (?P<string>(?:[rR][bB]? | [bB][rR]? | [uU])?
            (?:'''(?:[^\\]|\\[\s\S])*?''' | \"\"\"(?:[^\\]|\\[\s\S])*?\"\"\"
             | '(?:[^'\\\n]|\\[\s\S])*' | "(?:[^"\\\n]|\\[\s\S])*"))
      | (?P<integer>0[xXoObB][0-9a-fA-F_]+ | [0-9][0-9_]*(?![0-9_.eEjJ]))
      | (?P<float>(?:[0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?[jJ]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>\.\.\. | [()\[\]{},:=+-])""",
    re.VERBOSE,
)
_INF, _NAN = float("inf"), float("nan")
NUMBERS = {"inf": _INF, "nan": _NAN, "infj": complex(0.0, _INF), "nanj": complex(0.0, _NAN)}  # as repr() writes them
CONSTANTS: dict[str, object] = {"None": None, "True": True, "False": False, "Ellipsis": ...}
SIGNS = {"+": 1, "-": -1}
_ESCAPES = {str: "\n\\'\"abfnrtv01234567xuUN", bytes: "\n\\'\"abfnrtv01234567x"}


class Token(NamedTuple):
    """A piece of the text; `kind` is string, integer, float, name or mark."""

    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """All tokens but space and comments; raises Refused where there is none that a literal may have."""
    if len(text) > MAX_TEXT:
        raise Refused(f"{len(text)} characters, {MAX_TEXT} are the limit")
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Refused(f"{text[at : at + 12]!r} is not part of a literal")
        at = match.end()
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup, match[0]))
    return tokens


def read_integer(text: str) -> int:
    """The value of an integer token; raises Refused."""
    try:
        return checked_int(int(text, 0))
    except ValueError as error:
        raise Refused(f"{text[:20]} is not an int: {error}") from error


def read_float(text: str) -> float | complex:
    """The value of a float or imaginary token; raises Refused."""
    try:
        return complex(0.0, float(text[:-1])) if text[-1] in "jJ" else float(text)
    except ValueError as error:
        raise Refused(f"{text[:20]} is not a float") from error


def read_string(token: str) -> str | bytes:
    """The value of one string token; raises Refused."""
    prefix = token[: min(token.find("'") % len(token), token.find('"') % len(token))].lower()
    if "\\" in token and "r" not in prefix:
        known = _ESCAPES[bytes if "b" in prefix else str]
        # Python keeps an unknown escape as it stands and warns; a doubled backslash says the same without the warning.
        token = re.sub(r"\\([\s\S])", lambda found: found[0] if found[1] in known else "\\" + found[0], token)
    try:
        value: object = ast.literal_eval(token)
    except (SyntaxError, ValueError) as error:
        raise Refused(f"{token[:20]} is not a string") from error
    if isinstance(value, str | bytes):
        return value
    raise Refused(f"{token[:20]} is not a string")
