"""Write config/rave.yaml, and the options in packaging/man/rave.yaml.5, from the declarations in ravesvc/config.

python3 packaging/option_texts.py

The text under the field of an option becomes both: its first paragraph the comment in rave.yaml, all of it the entry
in the manual page. In a text, `...` is what is typed or named: an option, a file, a command, a value.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from ravesvc.common import timespan  # noqa: E402
from ravesvc.config import declaration as kinds  # noqa: E402
from ravesvc.config.options import TABLE  # noqa: E402
from ravesvc.config.table import Entry, entries  # noqa: E402
from ravesvc.config.worker_options import AUTO, WorkerOptions  # noqa: E402

CONFIG = ROOT / "config/rave.yaml"
PAGE = ROOT / "packaging/man/rave.yaml.5"
BEGIN = '.\\" make options writes what follows, from the declarations in ravesvc/config.\n'
END = '.\\" Here ends what make options writes.\n'
_COLUMNS = 114
# Bounds beyond these are there to catch slips of the finger, and not worth a word.
_USUAL_MOST = (kinds.YEAR_S, 1_000_000)
_DELIMITERS = ".,:;)]?!"

_PREAMBLE = """\
# The configuration of rave-orchestrator; rave.yaml(5) says more of each option.
# It is yours: no upgrade touches it. That of the installed version is /usr/share/rave-orchestrator/rave.yaml.
# After a change: systemctl reload rave-orchestrator says what waits for a restart. Neither disturbs a mesh.
# Before that, ravectl config check names each mistake, and what is missing.

# What is commented out shows the default. Time spans take 5s, 10min, 1h or plain seconds.
"""

_TAKING_EFFECT = (
    "The service reads the file when it starts: run `systemctl restart rave-orchestrator`. That disturbs no bot."
    " At `systemctl reload rave-orchestrator` a service that runs applies changes of {reloaded}."
    " The log says what else has changed, and waits for a restart."
    " With a mistake in the file a reload fails, and nothing changes."
    " `ravectl status` and `ravectl roll` say when the file has changed since it was read, and which of the two"
    " applies the change."
    " A bot that runs keeps the values with which it was started of {names}."
    " Then `ravectl status` shows it as outdated, and `ravectl roll` restarts such bots one after another."
)


class Chapter(NamedTuple):
    """A chapter of both texts: its key or the name of its section, its title, and what stands before its options."""

    key: str
    title: str
    text: str


CHAPTERS = (
    Chapter(
        "client_identity",
        "Client identity",
        """Who the bot claims to be towards Rave's servers. You supply it; none is shipped.

        The status line of the service, `ravectl config check` and `ravectl login` name each key that is missing.""",
    ),
    Chapter("servers", "Servers", "Base URLs of Rave's servers, all with https."),
    Chapter("tls", "Certificates", "How the certificates of servers are verified."),
    Chapter(
        kinds.NETWORK,
        "Network",
        """How bots reach Rave, and what else they may reach.

        The environment of the service is that of its unit (`systemctl edit rave-orchestrator`), not that of a shell;
        bots get the proxy from the service.

        Service and bots try all addresses of a host, IPv6 and IPv4 in turn, each a quarter of a second after the one
        before. So an address that does not answer costs no more than that.""",
    ),
    Chapter(kinds.MESHES, "Meshes", "Which meshes get a bot, and how many. A mesh is a room of Rave."),
    Chapter(kinds.LEAVING, "Leaving a mesh", "When a bot gives a mesh up."),
    Chapter(kinds.ACCOUNT, "Account", "The account of Rave as which all bots log in."),
    Chapter(
        kinds.STORE,
        "Store",
        """Admins, command permissions, the account, and what rooms remember are kept in a file, or in MongoDB.

        `database.json` is a JSON object with `uri`, a connection string of MongoDB, and, if you like, `options`, an
        object of MongoDB's connection options. Without a name in the URI the database is `rave-bot`. The user needs
        the role `readWrite` on it. The file holds a password, so it should belong to root and be readable by group
        rave alone; the package sees to that at boot. An error in it is an error of the configuration. While the
        server is away, the service runs on with the permissions that it knew last, and refuses changes.""",
    ),
    Chapter(kinds.ADMINS, "Admins", "What admins may do from a room."),
    Chapter(
        kinds.PROCESSES,
        "Processes",
        """What happens to a bot that crashes, hangs, or does not stop.

        systemd carries these options out, all but `status_poll_interval`.""",
    ),
    Chapter(kinds.CHAT, "Chat", "How bots read and write the chat."),
    Chapter(
        "unconfirmed_calls",
        "Calls of Rave",
        """What bots may ask of Rave although one source alone describes it. Switch off what Rave answers oddly.

        When a user asks for a call that is switched off, the bot refuses it and names the option.""",
    ),
    Chapter(
        "videos",
        "Videos",
        """What rooms may look up and search. Links need no key; to search takes one of the YouTube Data API.

        A bot asks the service. The service asks `rave-media.service`, see rave-orchestrator(8), the only process that
        reaches a provider and knows its key.""",
    ),
    Chapter(kinds.LOG, "Log", "What the service and its bots write into the journal."),
)


def rave_yaml(table: Iterable[Entry] = TABLE) -> str:
    """The text of config/rave.yaml."""
    parts = [_PREAMBLE]
    for chapter, inside in _chapters(table):
        named = chapter.key if "." in inside[0].name else ""
        indent = "  " if named else ""
        parts.append(_comment(f"{chapter.title}: {_first(chapter.text)}", ""))
        parts[-1] += f"{named}:\n" if named else "\n"
        parts[-1] += "".join(f"{_comment(_summary(each), indent)}{indent}#{_line(each)}\n" for each in inside)
    return "\n".join(parts)


def options(table: Iterable[Entry] = TABLE) -> str:
    """The chapters of rave.yaml(5) about options."""
    listed = list(table)
    words = {word for each in listed for word in (each.name, *each.name.split("."))}
    lines: list[str] = []
    for chapter, inside in _chapters(listed):
        first, *more = _paragraphs(chapter.text)
        lines += [f".Ss {chapter.title}", *_mdoc(first, words)]
        if "." in inside[0].name:
            lines += ["These options stand under", f".Va {chapter.key} ."]
        lines.append(".Bl -tag -width Ds")
        for each in inside:
            lines.append(f".It Va {each.name.rpartition('.')[2]}")
            for number, paragraph in enumerate(_texts(each.owner)[each.field.name]):
                lines += [".Pp"] * bool(number) + list(_mdoc(paragraph, words))
            lines += _mdoc(_allowed(each), words)
        lines.append(".El")
        for paragraph in more:
            lines += [".Pp", *_mdoc(paragraph, words)]
    if names := _kept_by_workers(listed):
        lines += [
            ".Ss When a change takes effect",
            *_mdoc(_TAKING_EFFECT.format(names=_listed(names), reloaded=_listed(_reloaded(listed))), words),
        ]
    return "".join(f"{line}\n" for line in lines)


def page(text: str, table: Iterable[Entry] = TABLE) -> str:
    """The manual page, with its chapters about options written anew."""
    before, _, rest = text.partition(BEGIN)
    _, marked, after = rest.partition(END)
    if not marked:
        raise SystemExit(f"{PAGE.name}: the marks of what is written here are not there")
    return f"{before}{BEGIN}{options(table)}{END}{after}"


def main() -> None:
    """Write both files."""
    CONFIG.write_text(rave_yaml(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _chapters(table: Iterable[Entry]) -> Iterator[tuple[Chapter, list[Entry]]]:
    inside: dict[str, list[Entry]] = {}
    for each in table:
        inside.setdefault(each.option.chapter or each.name.partition(".")[0], []).append(each)
    for chapter in CHAPTERS:
        if found := inside.pop(chapter.key, None):
            yield chapter, found
    if inside:
        raise SystemExit(f"no chapter in {Path(__file__).name}: {', '.join(inside)}")


def _texts(owner: type[Any]) -> Mapping[str, list[str]]:
    """The paragraphs under each field of a class, those of its bases included."""
    found: dict[str, list[str]] = {}
    for base in reversed(owner.__mro__[:-1]):
        found.update(_texts_in(inspect.getfile(base))[base.__name__])
    return found


@functools.cache
def _texts_in(file: str) -> Mapping[str, Mapping[str, list[str]]]:
    """The paragraphs under each field of each class of a module."""
    found: dict[str, dict[str, list[str]]] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            fields = found.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                        fields[name] = _paragraphs(said)
    return found


def _summary(entry: Entry) -> str:
    """What rave.yaml says of an option."""
    texts = _texts(entry.owner)
    if entry.field.name not in texts:
        raise SystemExit(f"{entry.name} has no text under its field")
    words = entry.option.words
    among = f" One of {_listed(words)}." if entry.option.kind is kinds.CHOICE else ""
    return texts[entry.field.name][0] + among


def _line(entry: Entry) -> str:
    key, default = entry.name.rpartition(".")[2], _value(entry, entry.default)
    return f"{key}: {default}" if default else f"{key}:"


def _value(entry: Entry, value: Any) -> str:
    """A value as YAML has it."""
    if entry.option.automatic:
        return AUTO
    if entry.option.kind is kinds.TIME_SPAN:
        return timespan.written(value)
    if entry.option.kind is kinds.LIMIT:
        return str(value or 0)
    match value:
        case None | "":
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(_scalar(each) for each in value)}]"
        case _:
            return _scalar(value)


def _scalar(value: Any) -> str:
    plain = not isinstance(value, str) or re.match(r"[\w/]", value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _allowed(entry: Entry) -> str:
    """Default, bounds and environment of an option, in sentences."""
    option = entry.option
    default = _value(entry, entry.default)
    # Numbers speak for themselves.
    shown = default if re.fullmatch(r"\d\w*", default) else f"`{default}`"
    sentences = [{"": "Not set by default", "[]": "Empty by default"}.get(default, f"Default {shown}")]
    number = timespan.written if option.kind is kinds.TIME_SPAN else str
    if option.kind is kinds.CHOICE:
        sentences = [f"One of {_listed(f'`{word}`' for word in option.words)}; default `{default}`"]
    elif option.kind in (kinds.TIME_SPAN, kinds.WHOLE_NUMBER, kinds.LIMIT):
        least, most = number(option.least), number(option.most)
        if option.most not in _USUAL_MOST:
            sentences[0] += f"; from {least} to {most}" if option.least else f"; at most {most}"
        elif option.least:
            sentences[0] += f"; at least {least}"
    if option.environment:
        sentences.append(f"Where it is not set, `${option.environment}` in the service's environment counts")
    return "".join(f"{sentence}. " for sentence in sentences).strip()


def _kept_by_workers(table: list[Entry]) -> list[str]:
    """The options that a worker gets at its start, and the sections that it gets as a whole."""
    return _shortened(table, {each.name for each in entries(WorkerOptions) if not each.option.for_service})


def _reloaded(table: list[Entry]) -> list[str]:
    """The options that a reload applies, likewise."""
    return _shortened(table, {each.name for each in table if each.option.reload})


def _shortened(table: list[Entry], theirs: set[str]) -> list[str]:
    """These options, and for sections that are all in them their names."""
    whole = {
        section for section in map(_section, theirs) if _inside(table, section) and _inside(table, section) <= theirs
    }
    found = (each.name for each in table if each.name in theirs)
    return [
        f"`{name}`" for name in dict.fromkeys(_section(name) if _section(name) in whole else name for name in found)
    ]


def _section(name: str) -> str:
    return name.partition(".")[0]


def _inside(table: Iterable[Entry], section: str) -> set[str]:
    return {each.name for each in table if each.name.startswith(f"{section}.")}


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]


def _first(text: str) -> str:
    return _paragraphs(text)[0]


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _comment(text: str, indent: str) -> str:
    lines = textwrap.wrap(text.replace("`", ""), _COLUMNS, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{indent}# {line}\n" for line in lines)


def _mdoc(text: str, names: set[str]) -> Iterator[str]:
    """A paragraph in mdoc(7): a sentence a line, and a line for each thing that is named."""
    # References to manual pages need no marks.
    text = re.sub(r"(?<!`)\b([a-z][\w.-]*)\(([1-8])\)", r"`\1(\2)`", text)
    # A dot inside the marks ends no sentence.
    pieces = re.split(r"(\(?`[^`]+`\)?[.,:;?!]*)", text)
    for piece in pieces:
        if match := re.fullmatch(r"(\(?)`([^`]+)`(\)?)([.,:;?!]*)", piece):
            opened, named, closed, after = match.groups()
            if bool(opened) != bool(closed):
                raise SystemExit(f"a bracket at {piece}: put the whole of it into marks, or none")
            macro = _macro(named, names)
            yield " ".join([f".{'Pq ' if opened else ''}{macro}", *after])
        elif piece.strip():
            for sentence in re.split(r"(?<=[.?!]) (?=[A-Z\d])", piece.strip()):
                yield _escaped(sentence)


def _macro(named: str, names: set[str]) -> str:
    if match := re.fullmatch(r"([\w.-]+)\(([1-8])\)", named):
        return f"Xr {match[1]} {match[2]}"
    if named in names:
        return f"Va {named}"
    if re.fullmatch(r"\$[A-Z_]+", named):
        return f"Ev {named[1:]}"
    if re.fullmatch(r"/[\w/.-]+", named):
        return f"Pa {named}"
    words = _escaped(named).replace('"', r"\(dq")
    # Two letters may be a macro.
    plain = re.fullmatch(r"[\w.:/@%-]+", words) and not re.fullmatch("[A-Z][a-z]", words)
    return f"Ql {words}" if plain else f'Ql "{words}"'


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\e").replace("¿", r"\(r?")
    return rf"\&{text}" if text[:1] in ".'" or text in tuple("?!:;,()[]|") else text


if __name__ == "__main__":
    main()
