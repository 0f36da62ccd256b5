"""Options of the Node.js bot, as far as its source says them plainly. It is read, never run.

That bot has no file for them: they are arguments in its own program, over the defaults in its library. A default must
not pass for what the program says, so an option with one value that can't be read is not taken at all, but named.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ravesvc.ctl.operations.nodejs_source import STRING, FoundOption, NodeSource, places, settled, text_of
from ravesvc.errors import Code, RaveError

Value = str | int | float | bool | tuple[str, ...]

_DAY_S = 86400.0
# Uses of options in one source; more are no program's.
_MAX_USES = 200
# A longer expression is not a plain value.
_MAX_EXPRESSION_CHARS = 300

_FACTOR = r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?"
_NUMBER = rf"-?{_FACTOR}(?:[ \t]*\*[ \t]*{_FACTOR})*"
_LIST = rf"\[\s*{STRING}(?:\s*,\s*{STRING})*\s*(?:,\s*)?\]"
_LITERAL = rf"{_LIST}|{STRING}|{_NUMBER}|true\b|false\b|Infinity\b"
# What a literal is followed by, unless it is part of something that only running it would tell.
_END = r"(?=[ \t]*(?:as const[ \t]*)?(?:[,;})\]\r\n]|$))"
_VARIABLE = r"process\.env(?:\.(?P<variable>\w+)|\[[\"'](?P<quoted>\w+)[\"']\])!?"
_DEFAULT = rf"(?:\s*(?:\?\?|\|\|)\s*(?:{_LITERAL}))?"
# Asks for a variable, and makes a number of it or not.
_ASKS = re.compile(
    rf"(?:(?:Number\.)?(?:Number|parseInt|parseFloat|String)\s*\(\s*|\+\s*|\(\s*)?{_VARIABLE}(?:\s+as\s+\w+)?{_DEFAULT}"
    rf"(?:\s*,\s*10)?\s*\)?{_DEFAULT}"
)
_ASKS_WHETHER = re.compile(rf"{_VARIABLE}\s*===?\s*[\"'](?P<wanted>[^\"']*)[\"']")
# Declares what may be there, but says nothing of what is.
_TYPE = (
    r"(?:readonly\s+)?(?:string|number|boolean|undefined|null|unknown|any"
    r"|[A-Z]\w{0,30}[a-z]\w{0,30}(?:<[^<>]{1,60}>)?)(?:\[\])*"
)
_TYPES = rf"(?:{_TYPE}|{STRING})(?:\s*\|\s*(?:{_TYPE}|{STRING}))*"
_TYPED = (".ts", ".tsx", ".mts", ".cts")
# A function or a module of that name.
_NO_VALUE = re.compile(r"(?:async\s*)?(?:function\b|\([^()]*\)\s*(?::[^=]*)?=>|\w+\s*=>)|require\s*\(\s*.debug\b")
# Where a library has what it is given.
_GIVEN = r"(?P<root>this|config|options|opts|params|props|defaults?)\b[\w$.?!]*"
# A variable that holds what a call has made, such as that which reads a file.
_LOADED = re.compile(
    r"\b(?:const|let|var)\s+(?P<name>\w{1,60})\s*(?::[^=;\n]{1,60})?=\s*(?:await\s+)?"
    r"(?!require\b|Object\b|this\b)[\w$.]{1,80}\s*(?:<[^<>]{1,60}>)?\("
)
_ROOTED = re.compile(
    rf"(?:path\.)?(?:join|resolve)\(\s*(?:process\.cwd\(\)\s*,\s*)?(?P<parts>{STRING}(?:\s*,\s*{STRING})*)\s*,?\s*\)"
)


def _number(value: Value) -> float:
    if isinstance(value, str):
        value = float(value) if re.fullmatch(_FACTOR, value) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return value


def _seconds(value: Value) -> str:
    return f"{_number(value):.15g}s"


def _milliseconds(value: Value) -> str:
    return f"{_number(value) / 1000:.15g}s"


def _whole(value: Value) -> str:
    # No limit is 0 here.
    return "0" if value == math.inf else f"{_number(value):.15g}"


def _word(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - as any other value that can't be used
    return json.dumps(value, ensure_ascii=False)


def _truth(value: Value) -> str:
    if not isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004
    return str(value).lower()


def _prefixes(value: Value) -> str:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, tuple):
        raise ValueError(value)  # noqa: TRY004
    return json.dumps(list(texts), ensure_ascii=False)


class NodeOption(NamedTuple):
    """An option under its name here, and the function that turns its old value into YAML text."""

    name: str
    written: Callable[[Value], str]


# Some of that bot's times are in seconds, and one is in milliseconds.
_OPTIONS = {
    "commandPrefix": NodeOption("command_prefix", _prefixes),
    "debug": NodeOption("debug", _truth),
    "maxProcesses": NodeOption("max_processes", _whole),
    "statusPollInterval": NodeOption("status_poll_interval", _seconds),
    "processRestartDelay": NodeOption("process_restart_delay", _seconds),
    "maxProcessRestarts": NodeOption("max_process_restarts", _whole),
    "shutdownTimeout": NodeOption("shutdown_timeout", _seconds),
    "maxConnectionAttempts": NodeOption("max_connection_attempts", _whole),
    "blocklistDuration": NodeOption("blocklist_duration", _milliseconds),
    "meshMode": NodeOption("mesh_mode", _word),
    "discoveryInterval": NodeOption("discovery_interval", _seconds),
}
BLOCKLIST_PATH = "blocklistPersistPath"
DATABASE_PATH = "databaseConfigPath"
_PATHS = {key: NodeOption(key, _word) for key in (BLOCKLIST_PATH, DATABASE_PATH)}
_KEYS = _OPTIONS | _PATHS


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the sources say: `values` by the names here, `paths` by the names there.

    `unclear` has those of `paths` that are said, but could not be read; `problems` (BadFile) say no value.
    """

    values: dict[str, FoundOption]
    paths: dict[str, FoundOption]
    unclear: frozenset[str]
    problems: list[RaveError]


class _Use(NamedTuple):
    key: str
    position: int
    expression: str
    passed_on: bool = False


def read(sources: Iterable[NodeSource], environment: Mapping[str, str]) -> NodeOptions:
    """The options that the sources set; `environment` is what its .env says."""
    plain: dict[str, list[tuple[int, FoundOption]]] = {}
    unread: dict[str, list[str]] = {}
    passed: dict[str, list[tuple[int, str]]] = {}
    asked: set[tuple[str, str]] = set()
    for source in sources:
        constants = _constants(source.text)
        for use in _uses(source.text, typed=source.name.endswith(_TYPED)):
            option, where = _KEYS[use.key], source.where(use.position)
            if use.passed_on:
                passed.setdefault(option.name, []).append((source.rank, where))
                continue
            expression = _filled(use.expression, constants)
            try:
                text = option.written(_value(expression, environment))
            except ValueError:
                unread.setdefault(option.name, []).append(where)
            else:
                plain.setdefault(option.name, []).append((source.rank, FoundOption(text, where)))
            asked |= {(option.name, name) for name in re.findall(r"process\.env\W+(\w+)", use.expression)}
    for name, every in plain.items():
        # The program gets it from elsewhere, and what was found is the library's.
        ranks = [rank for rank, _ in every]
        unread.setdefault(name, []).extend(where for rank, where in passed.get(name, []) if rank < min(ranks))
    unread = {name: every for name, every in unread.items() if every}
    for option in _OPTIONS.values():
        variable = option.name.upper()
        if variable in environment and (option.name, variable) not in asked:
            unread.setdefault(option.name, []).append(f".env: {variable}")
    found, several = settled({key: every for key, every in plain.items() if key not in unread}, "")
    problems = [_unread(name, where) for name, where in unread.items()] + several
    named = {option.name for option in _PATHS.values()}
    values = {}
    for name, each in found.items():
        if doubt := _doubt(name, each):
            problems.append(doubt)
        elif name not in named:
            values[name] = each
    unclear = frozenset(named.intersection(unread.keys() | plain.keys()) - found.keys())
    paths = {name: FoundOption(json.loads(found[name].text), found[name].where) for name in named & found.keys()}
    return NodeOptions(values, paths, unclear, problems)


def _unread(name: str, where: Iterable[str]) -> RaveError:
    text = f"{name} is not taken over: its value is not written plainly ({places(where)})"
    hint = "write it plainly there, and run this again" if name in _PATHS else f"set {name} in rave.yaml"
    return RaveError(Code.BAD_FILE, text, hint=hint)


def _doubt(name: str, found: FoundOption) -> RaveError | None:
    """An error for a time that is hardly meant: one in another unit than that bot takes it in."""
    if not found.text.endswith("s"):
        return None
    seconds = float(found.text[:-1])
    if name == "blocklist_duration":
        words = "less than a minute in milliseconds there; was it meant as seconds?" if 0 <= seconds < 60 else ""
    else:
        words = "more than a day in seconds there; was it meant as milliseconds?" if seconds > _DAY_S else ""
    text = f"{name} is not taken over: {words} ({found.where})"
    return RaveError(Code.BAD_FILE, text, hint=f"set {name} in rave.yaml") if words else None


def _uses(text: str, *, typed: bool) -> Iterator[_Use]:
    """Where a source gives an option a value, and the expression for it, which is "" for a variable's of its name."""
    strings = [match.span() for match in re.finditer(STRING, text)]
    starts = [start for start, _ in strings]
    loaded = {match["name"] for match in _LOADED.finditer(text)}
    plain = re.compile(rf"(?P<value>{_LITERAL}){_END}")
    keys = rf"(?<![\w$])(?P<key>{'|'.join(_KEYS)})(?P<quote>[\"']?)\s*(?P<sign>\??:|=(?![=>]))\s*"
    for match in islice(re.finditer(keys, text), _MAX_USES):
        before = text[max(0, match.start() - 20) : match.start()].rstrip()
        declared = re.compile(rf"(?:{_TYPES})\s*=(?![=>])\s*").match(text, match.end())
        begin = declared.end() if declared and match["sign"] != "=" else match.end()
        if literal := plain.match(text, begin):
            yield _Use(match["key"], match.start(), literal["value"])
            continue
        within = bisect_right(starts, match.start()) - 1
        if within >= 0 and match.start() < strings[within][1] and not match["quote"]:
            continue
        if match["sign"] == "?:" and not declared:
            continue
        expression = _expression(text, begin)
        if before.endswith("?") or (typed and re.fullmatch(_TYPES, expression)) or _NO_VALUE.match(expression):
            continue
        given = re.match(rf"{_GIVEN}\.{match['key']}\b", expression)
        yield _Use(match["key"], match.start(), expression, given is not None and given["root"] not in loaded)
    yield from _shorthands(text)


def _shorthands(text: str) -> Iterator[_Use]:
    """Options that a program gives on under the name of a variable which is not of the same file."""
    alone = rf"(?<=[{{,\n])[ \t]*(?P<key>{'|'.join(_KEYS)})[ \t]*(?=[,}}\n])"
    for match in islice(re.finditer(alone, text), _MAX_USES):
        key = match["key"]
        if re.search(rf"\b{key}\s*(?::[^=;\n]{{1,60}})?=(?![=>])", text):
            continue
        opened, closed = _braces(text, match.start(), match.end())
        if (
            opened is None
            or closed is None
            or re.search(r"\b(?:const|let|var|import|export)\s*$", text[max(0, opened - 20) : opened])
        ):
            continue
        if re.match(
            r"\s*(?::[^=;{]{1,80})?(?:=(?![=>])|\)\s*(?::[^{=]{1,80})?(?:\{|=>))", text[closed : closed + 120]
        ):
            # Taken out of an object, not put into one.
            continue
        yield _Use(key, match.start("key"), "")


def _braces(text: str, start: int, stop: int) -> tuple[int | None, int | None]:
    """The brace that is open at a place, and what follows the one that closes it; None if another bracket is open."""
    depth, opened, closed = 0, None, None
    for i in range(start - 1, max(-1, start - 2000), -1):
        if text[i] in ")]}":
            depth += 1
        elif text[i] in "([{":
            if not depth:
                opened = i if text[i] == "{" else None
                break
            depth -= 1
    depth = 0
    for i in range(stop, min(len(text), stop + 2000)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            if not depth:
                closed = i + 1
                break
            depth -= 1
    return opened, closed


def _expression(text: str, begin: int) -> str:
    """What stands from a place on, up to the comma, semicolon, bracket or line that ends it."""
    depth, end = 0, begin
    while end < min(len(text), begin + _MAX_EXPRESSION_CHARS):
        character = text[end]
        if character in "\"'`" and (string := re.compile(STRING).match(text, end)):
            end = string.end()
            continue
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if not depth:
                break
            depth -= 1
        elif character in ",;\n" and not depth:
            break
        end += 1
    return text[begin:end].strip()


def _constants(text: str) -> dict[str, str]:
    """Literals that have a name in a source, and are the only ones that have it."""
    assigned = Counter(re.findall(r"(?<![\w$])([A-Za-z_$][\w$]*+)\s*(?::\s*\w+\s*)?=(?![=>])", text))
    pattern = rf"\bconst\s+(?P<name>[A-Za-z_$][\w$]*+)\s*(?::\s*\w+\s*)?=\s*(?P<value>{_LITERAL}){_END}"
    return {match["name"]: match["value"] for match in re.finditer(pattern, text) if assigned[match["name"]] == 1}


def _filled(expression: str, constants: Mapping[str, str]) -> str:
    """A name, or a product with names in it, with the constants in their places."""
    if not re.fullmatch(r"[\w$ \t*]+", expression):
        return expression
    return re.sub(r"[A-Za-z_$][\w$]*", lambda name: constants.get(name[0], name[0]), expression)


def _value(expression: str, environment: Mapping[str, str]) -> Value:
    """The value of an expression. Raises ValueError for what only running it would tell."""
    if re.fullmatch(_LITERAL, expression):
        return _literal(expression)
    if rooted := _ROOTED.fullmatch(expression):
        return "/".join(text_of(part) for part in re.findall(STRING, rooted["parts"]))
    asks = _ASKS.fullmatch(expression) or _ASKS_WHETHER.fullmatch(expression)
    if not asks:
        raise ValueError
    value = environment.get(asks["variable"] or asks["quoted"])
    if not value:
        raise ValueError
    wanted = asks.groupdict().get("wanted")
    return value if wanted is None else value == wanted


def _literal(text: str) -> Value:
    if text.startswith("["):
        return tuple(text_of(each) for each in re.findall(STRING, text))
    if text[0] in "\"'`":
        if text[0] == "`" and "${" in text:
            raise ValueError
        return text_of(text)
    words: dict[str, Value] = {"true": True, "false": False, "Infinity": math.inf}
    if text in words:
        return words[text]
    return math.prod(float(each.replace("_", "")) for each in text.split("*"))
