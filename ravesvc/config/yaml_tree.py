"""The tree of a YAML text; or, of a text that is none, the line of its mistake, what is wrong there, and what to do.

What PyYAML says is for those who know its grammar, and names the place where it could go on no more. People need the
place that they have to change. No message quotes a value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

from ravesvc.errors import Code, RaveError

# PyYAML quotes the names of aliases and tags, but what begins with * or ! may be a secret that lacks its quotes.
_QUOTED_NAME = re.compile(r" '[^'<>]{2,}'")

_KEPT_CHARACTERS = re.compile(r"cannot start any token|not allowed here|alias|anchor|tag|directive")


class _Mistake(NamedTuple):
    line: int
    what: str
    hint: str


def compose(text: str, file: str) -> yaml.Node | None:
    """The tree of a YAML text, None if it is empty. Raises `RaveError` (Config) for what is not YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line, mistake, hint = _mistake(e, text)
        problem = f"{file}:{line}: this is not YAML: {mistake}"
        # Without its cause, which quotes the text.
        raise RaveError(Code.CONFIG, problem, hint=hint, file=file, line=line) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        problem = f"{file}:{line}: this is not YAML: a control character"
        raise RaveError(Code.CONFIG, problem, hint="delete it", file=file, line=line) from None
    except (ValueError, OverflowError, RecursionError):
        # What PyYAML lets through, without a line, for impossible numbers and for brackets in brackets in brackets.
        hint = "look for a wrong escape such as \\UFFFFFFFF, and for hundreds of brackets"
        raise RaveError(Code.CONFIG, f"{file}: this is not YAML", hint=hint, file=file) from None


def _mistake(error: yaml.MarkedYAMLError, text: str) -> _Mistake:
    """PyYAML notices some mistakes only on a later line, and may then name the right one as that of the context."""
    place = error.problem_mark
    if place is None:
        return _other(1, error)
    before = list(_tokens_before(text, place.index))
    found = place.line + 1
    began = error.context_mark.line + 1 if error.context_mark else found
    return (
        _open_quote(error, before, place.line, began)
        or _tab(error, text, place)
        or _after_quote(before, place.line)
        or _colon(error, before, text, found, began)
        or _structure(error, found, began)
        or _other(found, error)
    )


def _tokens_before(text: str, index: int) -> Iterator[yaml.Token]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_token():
            token = loader.get_token()  # type: ignore[no-untyped-call]
            if token.end_mark.index > index:
                return
            yield token
    except yaml.YAMLError:
        # What was read, but held back because it may have become a key.
        yield from (token for token in loader.tokens if token.end_mark.index <= index)


def _open_quote(error: yaml.MarkedYAMLError, before: list[yaml.Token], line: int, began: int) -> _Mistake | None:
    """The quote that is to close the text of a later line closes the open one, and what follows it fits nowhere."""
    what, hint = "a quote is not closed", "close it on the same line"
    if "quoted scalar" in (error.context or "") and "escape" not in (error.problem or ""):
        return _Mistake(began, what, hint)
    for token in before:
        if _is_quoted(token) and token.start_mark.line < token.end_mark.line == line:
            return _Mistake(token.start_mark.line + 1, what, hint)
    return None


def _tab(error: yaml.MarkedYAMLError, text: str, place: yaml.Mark) -> _Mistake | None:
    if "\\t" not in (error.problem or ""):
        return None
    hint = "write a space in its place" if _line_before(text, place).strip() else "indent with spaces"
    return _Mistake(place.line + 1, "a tab", hint)


def _after_quote(before: list[yaml.Token], line: int) -> _Mistake | None:
    if not (before and _is_quoted(before[-1]) and before[-1].end_mark.line == line):
        return None
    hint = "close each quote, and put a value that has quotes in it between quotes of the other kind"
    return _Mistake(line + 1, "a closing quote stands before the end of the value", hint)


def _colon(
    error: yaml.MarkedYAMLError, before: list[yaml.Token], text: str, found: int, began: int
) -> _Mistake | None:
    missing, written = "a colon is missing, or the space after it", "write it as key: value"
    if error.problem == "could not find expected ':'":
        return _Mistake(began, missing, written)
    if error.problem != "mapping values are not allowed here":
        return None
    last = before[-1] if before else None
    if not isinstance(last, yaml.ScalarToken) or last.start_mark.line == last.end_mark.line:
        return _Mistake(
            found, "a second colon", "write one key: value on a line, and quote a value with a colon in it"
        )
    # The text of two lines in one: two keys, or a value and the key of a line that is indented.
    if not _line_before(text, last.start_mark).strip():
        return _Mistake(last.start_mark.line + 1, missing, written)
    return _Mistake(found, "this line is indented more than those around it", "indent all of a section equally")


def _structure(error: yaml.MarkedYAMLError, found: int, began: int) -> _Mistake | None:
    problem = error.problem or ""
    if problem.startswith("expected ',' or ']'"):
        what, hint = "a bracket [ is not closed, or a comma is missing", 'write it as key: ["?", "!"]'
        return _Mistake(began, what, hint)
    if problem.startswith("expected ',' or '}'"):
        what, hint = "a bracket { is not closed, or a comma is missing", "write it as key: {key: value, key: value}"
        return _Mistake(began, what, hint)
    if problem.endswith("but found '<scalar>'"):
        return _Mistake(found, "this is no key with a value", "write it as key: value")
    if problem.startswith(("expected <block end>", "expected '<document start>'")):
        return _Mistake(found, "this line is not indented as those around it", "indent all of a section equally")
    if "escape" in problem:
        return _Mistake(found, "an escape that YAML does not have", r"write \\ for a backslash, or use single quotes")
    return None


def _other(found: int, error: yaml.MarkedYAMLError) -> _Mistake:
    what = _QUOTED_NAME.sub("", error.problem or "")
    if _KEPT_CHARACTERS.search(f"{error.context} {what}"):
        what = "a text begins with a character that has a meaning in YAML"
    return _Mistake(found, what, "quote a text that begins with one of ? ! * & % @ ` -")


def _is_quoted(token: yaml.Token) -> bool:
    return isinstance(token, yaml.ScalarToken) and token.style in ('"', "'")


def _line_before(text: str, place: yaml.Mark) -> str:
    """What stands before a place on its line."""
    return text[place.index - place.column : place.index]
