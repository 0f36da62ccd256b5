"""A mapping in the tree of a YAML file (`config/yaml_tree.py`), from which options are taken one by one.

The file is read as a tree of nodes, not as Python values, because only nodes know their line. An error names file,
line and key, and says what is wrong and how to correct it; it quotes no value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from ravesvc.common import timespan
from ravesvc.common.json_fields import as_user_id
from ravesvc.common.spelling import nearest
from ravesvc.common.text import count, printable
from ravesvc.config import declaration, proxy
from ravesvc.config.declaration import Kind, Option
from ravesvc.config.worker_options import AUTO, PROXY, Proxy
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?")

# As BCP 47 has it, and with the underscore of locales.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")

_NOT_IN_BASE_URL = frozenset("?#@ ")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is found out while a file is read.

    Attributes:
        file: its name, for messages.
        problems: what is wrong, as errors (Config).
        warnings: what is allowed, but hardly meant, in sentences.
        lines: the line of each option that stands there, by its whole name.
    """

    file: str
    problems: list[RaveError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)


class Section:
    """One mapping of the file. `take` takes an option out of it, and notes what is wrong with its value."""

    def __init__(self, node: yaml.Node | None, name: str, findings: Findings) -> None:
        self._name = name
        self._findings = findings
        self._nodes: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self._known: list[str] = []
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, name or "the file", "must be a list of `key: value` lines")
            return
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, name or "the file", "has a key that is not a word")
                continue
            if earlier := self._nodes.get(key.value):
                first, second = (each.start_mark.line + 1 for each in (earlier[0], key))
                where = f"in line {first}" if first == second else f"in lines {first} and {second}"
                twice = f"stands here twice, {where}"
                self._problem(key, self._path(key.value), twice, hint="delete one of the two")
            self._nodes[key.value] = (key, value)

    def section(self, key: str) -> Section:
        """A mapping inside this one."""
        node = self._take(key)
        return Section(node, self._path(key), self._findings)

    def take(self, key: str, option: Option, default: Any) -> Any:
        """The value of an option as its kind has it; `default` when it is absent or wrong."""
        if option.kind is None:
            raise TypeError(f"{key} is a section")
        return _READERS[option.kind](self, key, option, default)

    def _text(self, key: str, _: Option, default: str) -> str:
        return self._scalar(key, default, _printable, "a text on one line, without control characters")

    def _language(self, key: str, _: Option, default: str) -> str:
        def parse(text: str) -> str:
            if not _LANGUAGE.fullmatch(text):
                raise ValueError(text)
            return text

        return self._scalar(key, default, parse, "the code of a language, such as en, de or pt-BR")

    def _choice(self, key: str, option: Option, default: str) -> str:
        def parse(text: str) -> str:
            if text not in option.words:
                raise ValueError(text)
            return text

        return self._scalar(key, default, parse, "one of " + ", ".join(option.words))

    def _choices(self, key: str, option: Option, default: tuple[str, ...]) -> tuple[str, ...]:
        """Several words, each once; there must be one."""
        chosen = self._texts(key, option, default)
        if not set(chosen) <= set(option.words):
            self._problem(self._nodes[key][1], self._path(key), f"must be a list of {', '.join(option.words)}")
            return default
        return tuple(dict.fromkeys(chosen))

    def _hosts(self, key: str, option: Option, default: tuple[str, ...]) -> tuple[str, ...]:
        chosen = self._texts(key, option, default)
        if not all(_HOST.fullmatch(host) for host in chosen):
            self._problem(self._nodes[key][1], self._path(key), "must be a list of host names")
            return default
        return chosen

    def _whole_number(self, key: str, option: Option, default: int) -> int:
        least, most = option.least, option.most
        wanted = f"a whole number from {least} to {most}"
        return self._scalar(key, default, lambda text: _within(int(text), least, most), wanted)

    def _limit(self, key: str, option: Option, default: int | None) -> int | None:
        """A whole number, None for 0; or the default, for the word "auto" where there is an automatic one."""
        least, most = option.least, option.most
        wanted = f"{f'{AUTO} or ' if option.automatic else ''}a whole number from {least} to {most}"

        def parse(text: str) -> int | None:
            if option.automatic and text == AUTO:
                return default
            return _within(int(text), least, most) or None

        return self._scalar(key, default, parse, wanted)

    def _time_span(self, key: str, option: Option, default: float) -> float:
        least, most = option.least, option.most
        wanted = f"a time span such as 5s, 10min or 1h, from {least:g}s to {most:.0f}s"
        number = self._milliseconds(key, option, default)
        thousandth = timespan.written(number / 1000)
        hint = f"write {thousandth} if you mean milliseconds, as the Node.js bot has them" if number else ""
        found = self._scalar(key, default, lambda text: _within(timespan.parse(text), least, most), wanted, hint)
        if number and found == number:
            means = f"{number:.0f} means {count(round(number), 'second')}, that is {timespan.roughly(number)}"
            choice = f"if you mean milliseconds, write {thousandth}; if you mean seconds, write {number:.0f}s"
            self._warn(key, f"{means} ({choice})")
        return found

    def _milliseconds(self, key: str, option: Option, default: float) -> float:
        """The number at a key if it may be milliseconds, else 0.

        It has no unit, and as milliseconds it is allowed, and by factors nearer to the default than as seconds.
        """
        value = self._nodes[key][1].value if key in self._nodes else ""
        if not (isinstance(value, str) and _NUMBER.fullmatch(value)):
            return 0
        number = float(value)
        allowed = option.least <= number / 1000 <= option.most
        return number if allowed and number * number > 1000 * default * default else 0

    def _switch(self, key: str, _: Option, default: bool) -> bool:  # noqa: FBT001 - the value
        return self._scalar(key, default, _boolean, "true or false")

    def _absolute_path(self, key: str, _: Option, default: Path) -> Path:
        return self._scalar(key, default, _absolute, "an absolute path")

    def _optional_path(self, key: str, _: Option, default: str | None) -> str | None:
        return self._scalar(key, default, lambda text: str(_absolute(text)), "an absolute path")

    def _url(self, key: str, _: Option, default: str) -> str:
        """A slash at its end is dropped."""
        return self._scalar(key, default, _base_url, "a URL such as https://host/path")

    def _proxy(self, key: str, _: Option, default: Proxy | None) -> Proxy | None:
        """What is wrong is told without the URL, which may hold a password."""
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        try:
            return proxy.parse(node.value if isinstance(node, yaml.ScalarNode) else "")
        except ValueError as e:
            self._problem(node, self._path(key), str(e))
            return default

    def _texts(self, key: str, _: Option, default: tuple[str, ...]) -> tuple[str, ...]:
        """Texts that are not empty, a list or a single one. The list may be empty only if the default is."""
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(
            isinstance(entry, yaml.ScalarNode) and entry.value and entry.value.isprintable() for entry in entries
        ) or (default and not entries):
            self._problem(node, self._path(key), "must be a list of texts", hint=f'write it as {key}: ["a", "b"]')
            return default
        return tuple(entry.value for entry in entries)

    def _ports(self, key: str, option: Option, default: tuple[int, ...]) -> tuple[int, ...]:
        """Ports, each once, in order."""
        chosen = self._texts(key, option, tuple(map(str, default)))
        if not all(port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536 for port in chosen):
            self._problem(
                self._nodes[key][1], self._path(key), "must be a list of ports", hint=f"write it as {key}: [443]"
            )
            return default
        return tuple(sorted({int(port) for port in chosen}))

    def _networks(self, key: str, option: Option, default: tuple[str, ...]) -> tuple[str, ...]:
        """Addresses and networks, each once."""
        chosen = self._texts(key, option, default)
        try:
            return tuple(dict.fromkeys(str(ipaddress.ip_network(text, strict=False)) for text in chosen))
        except ValueError:
            hint = f"write it as {key}: [10.1.0.0/16]"
            self._problem(self._nodes[key][1], self._path(key), "must be a list of addresses and networks", hint=hint)
            return default

    def _user_ids(self, key: str, _: Option, default: tuple[int, ...]) -> tuple[int, ...]:
        """User ids, each once, in order."""
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        ids = [as_user_id(entry.value) if isinstance(entry, yaml.ScalarNode) else None for entry in entries]
        if None in ids:
            self._problem(node, self._path(key), "must be a list of user ids", hint=f"write it as {key}: [900000001]")
            return default
        return tuple(sorted({number for number in ids if number is not None}))

    def refuse_unknown(self, options: Iterable[str], all_options: str) -> None:
        """Note every key that was not asked for.

        `options` are the whole names of all, and of sections; `all_options` says where they are listed.
        """
        for name, (key, _) in self._nodes.items():
            if name not in self._known:
                self._problem(
                    key, self._path(name), "is not an option", hint=self._meant(name, options) or all_options
                )

    def _meant(self, name: str, options: Iterable[str]) -> str:
        """What to do about a key that is none here: it may belong elsewhere, or be misspelt.

        Empty for one at the top like which there is none: too many are known there.
        """
        whole = {each.rpartition(".")[2]: each for each in options} | {each: each for each in options}
        if home := whole.get(name):
            return self._moved(home)
        if close := nearest(name, self._known):
            return f"did you mean {close}?"
        if close := nearest(name, whole):
            return f"did you mean {close.rpartition('.')[2]}? {self._moved(whole[close])}"
        return "known here: " + ", ".join(self._known) if self._name else ""

    def _moved(self, home: str) -> str:
        section, _, key = home.rpartition(".")
        if section:
            return f"{key} belongs in the section {section}: indent it, below a line {section}:"
        return f"{key} belongs outside of {self._name}: write it at the beginning of a line"

    def _take(self, key: str) -> yaml.Node | None:
        self._known.append(key)
        found = self._nodes.get(key)
        if found is None:
            return None
        self._findings.lines[self._path(key)] = found[0].start_mark.line + 1
        if _is_bare_tag(found[1]):
            self._problem(
                found[1], self._path(key), "begins with ! and is not quoted", hint=f'write it as {key}: "!"'
            )
        return found[1]

    def _scalar(self, key: str, default: T, parse: Callable[[str], T], wanted: str, hint: str = "") -> T:
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        try:
            if isinstance(node, yaml.ScalarNode):
                return parse(node.value)
        except ValueError:
            pass
        self._problem(node, self._path(key), f"must be {wanted}", hint=hint)
        return default

    def _warn(self, key: str, message: str) -> None:
        findings, where = self._findings, self._path(key)
        findings.warnings.append(f"{findings.file}:{findings.lines[where]}: {where}: {message}")

    def _problem(self, node: yaml.Node, where: str, message: str, *, hint: str = "") -> None:
        file, line = self._findings.file, node.start_mark.line + 1
        text = f"{file}:{line}: {where} {message}"
        self._findings.problems.append(RaveError(Code.CONFIG, text, hint=hint, file=file, line=line, key=where))

    def _path(self, key: str) -> str:
        # Without a space behind its colon a value is part of the key: {request_hash_key:secret}.
        name = printable(key.partition(":")[0], 40) or "an empty key"
        return f"{self._name}.{name}" if self._name else name


_READERS: Mapping[Kind[Any], Callable[[Section, str, Option, Any], Any]] = {
    declaration.SWITCH: Section._switch,
    declaration.TEXT: Section._text,
    declaration.LANGUAGE: Section._language,
    declaration.CHOICE: Section._choice,
    declaration.URL: Section._url,
    declaration.WHOLE_NUMBER: Section._whole_number,
    declaration.LIMIT: Section._limit,
    declaration.TIME_SPAN: Section._time_span,
    declaration.ABSOLUTE_PATH: Section._absolute_path,
    declaration.STATE_FILE: Section._absolute_path,
    declaration.OPTIONAL_PATH: Section._optional_path,
    declaration.TEXTS: Section._texts,
    declaration.CHOICES: Section._choices,
    declaration.HOSTS: Section._hosts,
    declaration.NETWORKS: Section._networks,
    declaration.PORTS: Section._ports,
    declaration.USER_IDS: Section._user_ids,
    PROXY: Section._proxy,
}


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _is_bare_tag(node: yaml.Node) -> bool:
    """Whether the file has an exclamation mark there, which YAML takes for the type of a value that is left out."""
    start, end = node.start_mark, node.end_mark
    return _is_null(node) and start.buffer is not None and start.buffer[start.pointer : end.pointer].startswith("!")


def _within(value: T, least: float, most: float) -> T:
    if not least <= value <= most:  # type: ignore[operator]
        raise ValueError(value)
    return value


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return text


def _absolute(text: str) -> Path:
    path = Path(_printable(text))
    if not path.is_absolute():
        raise ValueError(text)
    return path


def _base_url(text: str) -> str:
    url = urlsplit(_printable(text))
    # Reading .port raises ValueError for a bad one.
    if url.scheme != "https" or not url.hostname or url.port == 0 or not _NOT_IN_BASE_URL.isdisjoint(text):
        raise ValueError(text)
    return text.rstrip("/")
