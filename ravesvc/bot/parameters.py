"""What the words after a command mean, as its handler declares: `async def add(context, a: int, b: int = 1)`.

A signature is read when the command is registered, so one that no words can fill is refused there. Words are read
when a user gives them; what does not fit is answered with how the command is written.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.mentions import Member
from ravesvc.bot.step_timeout import MAX_STEP_S, AlarmTimeout
from ravesvc.bot.text import plain
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.spelling import fold
from ravesvc.common.translation import LazyText
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention
from ravesvc.room.state import user_id

# Of a word that has to be a number, a name or a choice.
_MAX_WORD_CHARS = 32
_MAX_HANDLE_CHARS = 64
_MAX_QUOTED_CHARS = 1000
# That one command takes.
_MAX_WORDS = 100
_MAX_SHOWN_CHARS = 40
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_YES = frozenset({"yes", "on", "true", "1", "ja", "an"})
_NO = frozenset({"no", "off", "false", "0", "nein", "aus"})
# As keyboards write them; `fold` makes each of them this one.
_QUOTE = '"'
# In text that was folded. Also as people write them, with blanks and whole words.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART_OF_SPAN = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?|w|weeks?)(?![^\W\d_])\s*"
)
_MAX_SPAN_S = 366 * 86_400.0
# What may follow a mention without being part of it.
_AFTER_MENTION = ",;:."
_NOTHING = object()
_NO_PARAMETER = inspect.Parameter("none", inspect.Parameter.VAR_KEYWORD)


class Duration(float):
    """A parameter that users write as a time span, such as 90s or 1h30min. The value is in seconds."""


class UserId(int):
    """A parameter that users write as a mention or as a user id. The user need not be in the room."""


class Range(NamedTuple):
    """The bounds of a number, both of which it may be: `Annotated[int, Range(1, 6)]`."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        return f"{low}..{high}" if self.low < 0 else f"{low}-{high}"


class Said(NamedTuple):
    """A command as a user has written it, and what is needed to read it.

    Attributes:
        command: with its prefix; `usage` and `example` are the command's.
        text: what follows it, as written.
        mentions: those of the message.
        users: who is in the room, and `people`: what they are called.
        asker: who has written it, and `videos`: finds those that are meant.
    """

    command: str
    usage: str
    example: str
    text: str
    mentions: Sequence[Mention]
    users: frozenset[int]
    people: DisplayNames
    asker: int | None
    videos: VideoFinder


class _Words:
    """The words of a text, one after another. A word in double quotes may have blanks."""

    def __init__(self, text: str) -> None:
        self._left = text.strip()

    def next(self) -> str | None:
        """The next word, without its quotes; None if there are no more."""
        if not self._left:
            return None
        if fold(self._left[0]) == _QUOTE and (end := self._closing_quote()):
            word, self._left = self._left[1:end], self._left[end + 1 :].lstrip()
            return word
        word, *left = self._left.split(maxsplit=1)
        self._left = left[0] if left else ""
        return word

    def peek(self) -> str | None:
        """The next word as it is compared, without taking it."""
        word = _Words(self._left).next()
        return word if word is None else fold(word[:_MAX_WORD_CHARS])

    def span(self) -> float | None:
        """A time span that comes next, in seconds; None if none of at most a year does. Units may stand apart."""
        folded, at, total = fold(self._left[:_MAX_WORD_CHARS]), 0, 0.0
        while found := _PART_OF_SPAN.match(folded, at):
            total += float(found[1].replace(",", ".")) * _UNITS[found[2] if found[2] == "ms" else found[2][0]]
            at = found.end()
        # What folding has made longer or shorter can't be cut off by its length.
        if not at or total > _MAX_SPAN_S or len(folded) != len(self._left[:_MAX_WORD_CHARS]):
            return None
        self._left = self._left[at:]
        return total

    def rest(self) -> str:
        """All that is left, as written."""
        rest, self._left = self._left, ""
        return rest

    def mention(self, mentions: Sequence[Mention]) -> Mention | None:
        """The mention that comes next, which may have blanks; the only one if no handle is written so."""
        for mention in sorted(mentions, key=lambda each: -len(each.handle)):
            handle = f"@{mention.handle}".split()
            words = self._left.split(maxsplit=len(handle))
            last = [word.rstrip(_AFTER_MENTION) for word in words[len(handle) - 1 : len(handle)]]
            if _folded([*words[: len(handle) - 1], *last]) == _folded(handle):
                self._left = words[len(handle)] if len(words) > len(handle) else ""
                return mention
        if len(mentions) == 1:
            self.next()
            return mentions[0]
        return None

    def _closing_quote(self) -> int | None:
        """Where the quoted word ends: before a blank, or at the end of the text."""
        for at in range(1, min(len(self._left), _MAX_QUOTED_CHARS)):
            after = self._left[at + 1 : at + 2]
            if fold(self._left[at]) == _QUOTE and (not after or after.isspace()):
                return at
        # A quote that stands alone is a character as any other.
        return None


class _Kind(NamedTuple):
    """How a word is read: `read` raises ValueError for one that does not fit, which `misfit` says in words.

    `usage` is what can be written, empty for what the name of the parameter says.
    """

    read: Callable[[str], object]
    misfit: Callable[[str], LazyText]
    usage: str = ""


class _Parameter(NamedTuple):
    """One parameter. `required` is whether there must be a word for it; `many` takes all words, `rest` the text.

    `kind` is None for what takes more than the word.
    """

    name: str
    annotation: Any
    required: bool
    many: bool = False
    rest: bool = False
    kind: _Kind | None = None

    @property
    def usage(self) -> str:
        """How it is shown: `<a>`, `[b]`, `<on|off>`, `<1-6>`, `[words ...]`."""
        name = (self.kind and self.kind.usage) or self.name.replace("_", " ")
        name = f"@{name}" if self.annotation in (Member, UserId) else name
        shown = f"{name} ..." if self.many else name
        return f"<{shown}>" if self.required else f"[{shown}]"


class Parameters:
    """What words are read as.

    Attributes:
        usage: how they are written, such as `<a> [b]`; empty without any.
    """

    def __init__(self, parameters: tuple[_Parameter, ...]) -> None:
        self._parameters = parameters
        self.usage = " ".join(each.usage for each in parameters)

    @classmethod
    def of(cls, handler: Callable[..., object]) -> Parameters:
        """The parameters of a handler after its first one, the context.

        Raises `RaveError` (InvalidArgument), in words for the author, for those that no words can fill.
        """
        return cls(_read_signature(handler))

    @classmethod
    def of_answer(cls, annotation: Any) -> Parameters:
        """One value of this type, which for str and Video is all of the text. Raises as `of`."""
        whole = annotation in (str, Video)
        kind = inspect.Parameter.KEYWORD_ONLY if whole else inspect.Parameter.POSITIONAL_ONLY
        return cls((_parameter("a question", inspect.Parameter("answer", kind), annotation),))

    def __bool__(self) -> bool:
        return bool(self._parameters)

    async def read_answer(self, said: Said) -> Any:
        """The value of `of_answer`. Raises `RaveError` (InvalidArgument), in words for the user."""
        places, names = await self.read(said)
        return (*places, *names.values())[0]

    async def read(self, said: Said) -> tuple[list[object], dict[str, object]]:
        """The arguments of the handler, by place and by name.

        Raises `RaveError` (InvalidArgument), in words for the user.
        """
        words = _Words(said.text)
        places: list[object] = []
        names: dict[str, object] = {}
        for each in self._parameters:
            if each.rest:
                names |= await self._read_rest(said, each, words)
            elif each.many:
                while (
                    len(places) < _MAX_WORDS and (value := await self._read_next(said, each, words)) is not _NOTHING
                ):
                    places.append(value)
            else:
                value = await self._read_next(said, each, words)
                if value is not _NOTHING:
                    places.append(value)
                elif each.required:
                    raise usage_error(said)
        if (extra := words.next()) is not None:
            text = _("“{word}” is a word too many", word=plain(extra, _MAX_SHOWN_CHARS))
            raise RaveError(Code.INVALID_ARGUMENT, text, hint=_how_to_write(said))
        return places, names

    async def _read_rest(self, said: Said, parameter: _Parameter, words: _Words) -> Mapping[str, object]:
        text = words.rest()
        if not text and parameter.required:
            raise usage_error(said)
        if not text:
            return {}
        is_video = parameter.annotation is Video
        return {parameter.name: await said.videos.find(said.asker, text) if is_video else text}

    async def _read_next(self, said: Said, parameter: _Parameter, words: _Words) -> object:
        """The value of the next word; `_NOTHING` if there is none."""
        if parameter.annotation in (Member, UserId):
            return await self._read_user(said, parameter, words)
        if parameter.annotation is Duration and (span := words.span()) is not None:
            return Duration(span)
        word = words.next()
        if word is None:
            return _NOTHING
        if parameter.annotation is str:
            return word
        if parameter.annotation is Video:
            return await said.videos.find(said.asker, word)
        kind = parameter.kind
        assert kind, "the signature was looked at"
        try:
            return kind.read(word)
        except ValueError:
            misfit = kind.misfit(plain(word, _MAX_SHOWN_CHARS))
            raise RaveError(Code.INVALID_ARGUMENT, misfit, hint=_how_to_write(said)) from None

    async def _read_user(self, said: Said, parameter: _Parameter, words: _Words) -> object:
        user = self._next_user(said, words)
        if user is None:
            return _NOTHING
        if parameter.annotation is UserId:
            return UserId(user)
        if user not in said.users:
            raise RaveError(Code.INVALID_ARGUMENT, _("that user is not in this room"))
        return Member(user, await said.people.name(user))

    def _next_user(self, said: Said, words: _Words) -> int | None:
        word = words.peek()
        if word is None:
            return None
        if not word.startswith("@"):
            word = words.next() or ""
            user = user_id(fold(word[:_MAX_WORD_CHARS]))
            if user is None:
                text = _("“{word}” is no user", word=plain(word, _MAX_SHOWN_CHARS))
                raise RaveError(Code.INVALID_ARGUMENT, text, hint=_how_to_write(said))
            return user
        mentions = {mention.user_id: mention for mention in said.mentions}
        if found := words.mention(tuple(mentions.values())):
            return found.user_id
        if mentions:
            # One of them is meant, but no handle is written here.
            raise RaveError(Code.INVALID_ARGUMENT, _("that mentions several users"), hint=_("name one at a time"))
        hint = _(
            "pick a user from the list that Rave shows after @, or write {command} <user id>",
            command=said.command,
        )
        raise RaveError(Code.INVALID_ARGUMENT, _("that word mentions no user"), hint=hint)


def read_text(annotation: Any, text: str) -> Any:
    """The value of this type that the whole text stands for. Raises ValueError if it stands for none."""
    if annotation is str:
        return text
    words = _Words(text)
    if annotation is Duration and (span := words.span()) is not None:
        if words.next() is not None:
            raise ValueError(text)
        return Duration(span)
    kind = _kind(annotation)
    assert kind, "the type was looked at"
    return kind.read(text)


def usage_error(said: Said) -> RaveError:
    """What to say when the words after the command make no sense."""
    hint = _("for example {command}", command=f"{said.command} {said.example}") if said.example else ""
    return RaveError(Code.INVALID_ARGUMENT, _how_to_write(said), hint=hint)


def _how_to_write(said: Said) -> LazyText | str:
    if not said.command:
        # An answer to a question.
        return ""
    return _("write {command} {usage}", command=said.command, usage=said.usage)


def _kind(annotation: Any) -> _Kind | None:
    """How words become values of this type; None if they can't, or if it takes more than the word."""
    if get_origin(annotation) is Annotated:
        base, *extras = get_args(annotation)
        ranges = [each for each in extras if isinstance(each, Range)]
        return _bounded(base, ranges[0]) if ranges else _kind(base)
    if get_origin(annotation) is Literal:
        return _choice({str(choice): choice for choice in get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _choice({each.name.lower(): each for each in annotation})
    if isinstance(annotation, type) and callable(getattr(annotation, "from_word", None)):
        return _Kind(
            functools.partial(_convert, annotation),
            lambda word: _("“{word}” is no {kind}", word=word, kind=annotation.__name__),
        )
    return _KINDS.get(annotation)


def _bounded(base: Any, bounds: Range) -> _Kind | None:
    if base not in (int, float) or not bounds.low <= bounds.high:
        return None
    number = _KINDS[base]

    def read(word: str) -> object:
        value = number.read(word)
        if not bounds.low <= value <= bounds.high:  # type: ignore[operator]
            raise ValueError(word)
        return value

    low, high = _number(bounds.low), _number(bounds.high)
    return _Kind(
        read, lambda word: _("“{word}” is no number from {low} to {high}", word=word, low=low, high=high), str(bounds)
    )


def _number(number: float) -> str:
    """As people write it: no 1e+06."""
    return f"{number:.15g}"


def _convert(kind: Any, word: str) -> object:
    # The author's, as a handler is.
    with AlarmTimeout(MAX_STEP_S):
        return kind.from_word(word)


def _choice(choices: Mapping[str, object]) -> _Kind | None:
    by_key = {fold(name): choice for name, choice in choices.items()}

    def read(word: str) -> object:
        try:
            return by_key[fold(word[:_MAX_WORD_CHARS])]
        except KeyError:
            raise ValueError(word) from None

    if not choices:
        return None
    shown = ", ".join(choices)
    return _Kind(read, lambda word: _("“{word}” is none of: {choices}", word=word, choices=shown), "|".join(choices))


def _read_int(word: str) -> int:
    if len(word) > _MAX_WORD_CHARS or not _WHOLE_NUMBER.fullmatch(fold(word)):
        raise ValueError(word)
    return int(fold(word))


def _read_float(word: str) -> float:
    # With a comma, as half of the world writes it.
    if len(word) > _MAX_WORD_CHARS or not _NUMBER.fullmatch(number := fold(word).replace(",", ".")):
        raise ValueError(word)
    return float(number)


def _read_bool(word: str) -> bool:
    key = fold(word[:_MAX_WORD_CHARS])
    if key not in _YES | _NO:
        raise ValueError(word)
    return key in _YES


def _read_duration(word: str) -> Duration:
    # A number without a unit is in seconds.
    if (seconds := _read_float(word)) > _MAX_SPAN_S or seconds < 0:
        raise ValueError(word)
    return Duration(seconds)


_KINDS: dict[Any, _Kind] = {
    int: _Kind(_read_int, lambda word: _("“{word}” is no whole number", word=word)),
    float: _Kind(_read_float, lambda word: _("“{word}” is no number", word=word)),
    bool: _Kind(_read_bool, lambda word: _("“{word}” is neither yes nor no", word=word)),
    Duration: _Kind(_read_duration, lambda word: _("“{word}” is no time such as 90s or 10min", word=word)),
}


def _read_signature(handler: Callable[..., object]) -> tuple[_Parameter, ...]:
    name = getattr(handler, "__name__", "the handler")
    signature = inspect.signature(handler)
    context, *others = [*signature.parameters.values()] or [_NO_PARAMETER]
    if context.name == "self":
        raise RaveError(Code.INVALID_ARGUMENT, f"{name} is a method: write a function, async def {name}(context)")
    if context.kind not in (context.POSITIONAL_ONLY, context.POSITIONAL_OR_KEYWORD):
        raise RaveError(Code.INVALID_ARGUMENT, f"{name} takes no context: write async def {name}(context)")
    if not others:
        return ()
    found = tuple(_parameter(name, each, _annotation(handler, each)) for each in others)
    for before, after in itertools.pairwise(found):
        if before.many or before.rest:
            text = f"the parameter {after.name} of {name} gets no word, as {before.name} takes all that are left"
            raise RaveError(Code.INVALID_ARGUMENT, text)
    return found


def _annotation(handler: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The type of one parameter; str without one."""
    if parameter.annotation is parameter.empty:
        return str
    namespace = getattr(inspect.unwrap(handler), "__globals__", {})
    alone = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(alone, namespace, include_extras=True)["it"]
    except NameError as error:
        name = getattr(handler, "__name__", "the handler")
        text = f"the parameter {parameter.name} of {name} has an unknown type: {error}"
        raise RaveError(Code.INVALID_ARGUMENT, text) from None


def _parameter(handler: str, found: inspect.Parameter, annotation: Any) -> _Parameter:
    what = f"the parameter {found.name} of {handler}"
    optional = found.default is not found.empty
    if optional and found.default is None:
        annotation = _without_none(annotation)
    if found.kind is found.VAR_KEYWORD:
        raise RaveError(Code.INVALID_ARGUMENT, f"{what} can't be filled: words have no names")
    if found.kind is found.KEYWORD_ONLY and annotation not in (str, Video):
        text = f"{what} stands after *, so it is the rest of the line: declare it as str or Video"
        raise RaveError(Code.INVALID_ARGUMENT, text)
    if inspect.iscoroutinefunction(getattr(annotation, "from_word", None)):
        text = f"{what} has a type whose from_word is a coroutine: write def from_word(cls, word)"
        raise RaveError(Code.INVALID_ARGUMENT, text, hint="what has to be awaited, the handler does with the word")
    takes_more = annotation in (str, Member, UserId, Video)
    kind = None if takes_more else _kind(annotation)
    if kind is None and not takes_more:
        known = "str, int, float, bool, Literal, an Enum, Duration, Member, UserId, Video, a class with from_word"
        known += ", or Annotated[int, Range(1, 6)]"
        hint = f"use {known}; X | None needs the default None"
        raise RaveError(Code.INVALID_ARGUMENT, f"{what} has a type that no word can give", hint=hint)
    if optional and found.default is not None and not _fits(found.default, annotation):
        raise RaveError(Code.INVALID_ARGUMENT, f"the default of {found.name} of {handler} is not of its type")
    many = found.kind is found.VAR_POSITIONAL
    rest = found.kind is found.KEYWORD_ONLY
    return _Parameter(found.name, annotation, required=not (optional or many), many=many, rest=rest, kind=kind)


def _fits(default: object, annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        base, *extras = get_args(annotation)
        ranges = [each for each in extras if isinstance(each, Range)]
        return _fits(default, base) and all(each.low <= default <= each.high for each in ranges)  # type: ignore[operator]
    if get_origin(annotation) is Literal:
        return default in get_args(annotation)
    return isinstance(default, int | float if issubclass(annotation, float) else annotation)


def _without_none(annotation: Any) -> Any:
    """The X of `X | None`."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    others = [each for each in get_args(annotation) if each is not type(None)]
    return others[0] if len(others) == 1 else annotation


def _folded(words: Sequence[str]) -> list[str]:
    return [fold(word[:_MAX_HANDLE_CHARS]) for word in words]
