"""Word filter: the bot warns, then mutes, then kicks users who write words or links that are not welcome.

Until an admin adds a word or turns links off, it does nothing. Admins write:

    ?filter add WORD              users may no longer write this word
    ?filter remove WORD           they may again; also for a site that was allowed
    ?filter links off             users may not write links
    ?filter allow example.org     but those to this site
    ?filter list                  what is in force
    ?filter history [@user]       who wrote what within a day, and what the bot did

A user is warned the first time, muted for ten minutes the second time within a day, and kicked from the third time
on. Admins may write what they like. Only the leader of a room can mute and kick: the leader can make the bot the
leader in the app. Until then the bot only warns.

Users may write a word as ÄSS, a$5, aaasss, a.s.s or a s s. Only whole words count: with "ass" in the list "class" is
fine, and so is "asses", until it is added as well. The bot can't see pictures, nor messages that are a command.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/word_filter.py /etc/rave/commands.d/
    ravectl refresh
"""

import itertools
import math
import re
import time
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

from ravesvc.commands import (
    Code,
    Context,
    Event,
    Permission,
    RaveError,
    UserError,
    UserId,
    command,
    every,
    on_message,
)

DAY_S = 86_400.0
MUTE_S = 600.0
# What a user writes so soon after an offence was written before the warning could be read.
GRACE_S = 3.0
# How often the bot says that it may not mute or kick, and tries again to end a mute.
TELL_EVERY_S = 1800.0
RETRY_S = 300.0

# All of it has to fit into 60 KiB.
MAX_WORDS, MAX_WORD_CHARS = 200, 24
MAX_SITES, MAX_SITE_CHARS = 50, 64
MAX_USERS, MAX_OFFENCES = 60, 5
# Of a message, from its beginning.
MAX_CHARS = 2000
MAX_SHOWN = 10


# --- words ----------------------------------------------------------------------------------------------------------

# Accents and other marks that stand over, under or around a letter, and letters that can't be seen.
MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\u115f\u1160\u3164\uffa0]")
# No letter is written in so many others, but for words and sentences in one character, which could hide what follows.
MAX_EXPANSION = 4
# What is written in the place of a Latin letter: digits and signs, letters of Cyrillic and Greek, and others.
LOOKALIKES = str.maketrans(
    "0345789@$" + "авекмнорстухіѕј" + "αεικνορτυχ" + "øłđı",
    "oeastbgas" + "abekmhopctyxisj" + "aeikvoptux" + "oldi",
)
# These may be an i or an l.
AS_I, AS_L = str.maketrans("1!|", "iii"), str.maketrans("1!|", "lll")
SIGNS = "@$!|"
# A word, or what may be meant as one.
PIECE = re.compile(rf"(?:[^\W_]|[{SIGNS}])+")
# Ordinary words double these letters, so "good" is not a long "god". Three in a row are always a letter that is drawn
# out.
OFTEN_DOUBLED = "bcdefglmnoprstz"
# Words of one letter, which may stand before or after a word that is spelt with blanks.
SHORT_WORDS = "aiu"


def plain(text: str) -> str:
    """A text in small letters of usual forms, without accents and invisible characters."""
    text = normal("NFKD", text)
    return "".join(c for c in MARKS.sub("", text) if c.isascii() or unicodedata.category(c) != "Cf")


def normal(form: str, text: str) -> str:
    """The beginning of a text in small letters, in one of the normal forms of Unicode."""
    parts = (unicodedata.normalize(form, char) for char in text[:MAX_CHARS])
    bounded = "".join(part if len(part) <= MAX_EXPANSION else " " for part in parts)
    return unicodedata.normalize(form, bounded).casefold()


def meanings(piece: str) -> set[str]:
    """What a word may be meant as.

    Other characters stand for Latin letters only beside a real one: 455 is a number, and сор is Russian.
    """
    if not re.search("[a-z]", piece):
        return {piece}
    piece = piece.translate(LOOKALIKES)
    return {piece.translate(AS_I), piece.translate(AS_L)}


def runs(word: str) -> tuple[str, tuple[int, ...]]:
    """The letters of a word, those in a row once, and how often each is there: "hello" is "helo", (1, 1, 2, 1)."""
    groups = [(letter, len(list(group))) for letter, group in itertools.groupby(word)]
    return "".join(letter for letter, _ in groups), tuple(count for _, count in groups)


def may_mean(letter: str, count: int, wanted: int) -> bool:
    """Whether `count` letters in a row may be meant as the `wanted` ones that a word has."""
    return count == wanted or (count > wanted and (count > 2 or letter not in OFTEN_DOUBLED))


def words_in(text: str) -> Iterator[str]:
    """All that may be meant as a word in a text that is `plain`."""
    for chunk in text.split():
        pieces = PIECE.findall(chunk)
        for piece in pieces:
            yield piece.strip("!|")
            # Such as the exclamation mark of a sentence, without a blank after it.
            yield from re.split(rf"[{SIGNS}]", piece)
        # Such as w.o.r.d or wo-rd.
        yield "".join(pieces)
    yield from spelt_words(text)
    # Where words are spelt, a wider gap is between two of them.
    for part in re.split(r"\s{2,}", text):
        yield from spelt_words(part)


def spelt_words(text: str) -> Iterator[str]:
    """Words that are written as w o r d."""
    letters = ["".join(PIECE.findall(chunk)) for chunk in text.split()]
    for is_spelt, group in itertools.groupby(letters, lambda chunk: len(set(chunk)) == 1):
        if is_spelt:
            word = "".join(group)
            begins = {0, int(word[0] in SHORT_WORDS)}
            ends = {len(word), len(word) - int(word[-1] in SHORT_WORDS)}
            yield from (word[begin:end] for begin in begins for end in ends)


# --- links ----------------------------------------------------------------------------------------------------------

BETWEEN_LINKS = re.compile(r"[\s,;<>()\[\]{}\"'`*]+")
HOST = re.compile(r"[\w-]+(\.[\w-]+)+")
# A name with one of these endings is a link, even without https:// and without a page. Endings that are words, as in
# "tell.me", are not among them.
ENDINGS = re.compile(
    "com|net|org|info|biz|io|gg|tv|xyz|app|dev|link|site|online|shop|club|live|top|ru|de|uk|fr|nl|pl|br|cn|jp"
)


def hosts_in(text: str) -> Iterator[str]:
    """The host of each link in a text. Not from a `plain` text: exämple.org is not example.org."""
    text = normal("NFKC", text).replace("。", ".")
    for part in BETWEEN_LINKS.split(text):
        _, is_url, rest = part.partition("://")
        if is_url:
            # Up to here browsers read the host. What stands before an @ is no part of it.
            authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
            if authority:
                yield authority.rpartition("@")[2].partition(":")[0].strip(".")
        else:
            yield from filter(None, map(host_of_name, re.split(r"[:=!?|]+", part)))


def host_of_name(name: str) -> str:
    """The host of a link that is written without https://, such as example.org/page; empty if it is none."""
    host, _, page = name.partition("/")
    host = host.strip(".")
    ending = host.rpartition(".")[2]
    is_link = ENDINGS.fullmatch(ending) or host.startswith("www.") or (page and re.fullmatch("[a-z]{2}", ending))
    return host if is_link and HOST.fullmatch(host) else ""


# --- what is in force -----------------------------------------------------------------------------------------------


class Rules:
    """What users may not write, so arranged that more words take no more time for a message."""

    def __init__(self, values: dict[str, Any]) -> None:
        """`values` are those of the room's store."""
        self.words: list[str] = values.get("words", [])
        self.sites: list[str] = values.get("sites", [])
        self.links: str = values.get("links", "on")
        self._by_letters: dict[str, list[tuple[tuple[int, ...], str]]] = {}
        for word in self.words:
            for meaning in meanings(word):
                letters, counts = runs(meaning)
                self._by_letters.setdefault(letters, []).append((counts, word))

    def offence(self, text: str) -> str | None:
        """The word of the list that a text has; empty for a link that may not be there; None if all is well."""
        if self.links == "off" and not all(map(self._allows, hosts_in(text))):
            return ""
        if not self.words:
            return None
        found = (self._find(meaning) for word in words_in(plain(text)) for meaning in meanings(word))
        return next(filter(None, found), None)

    def _find(self, meaning: str) -> str | None:
        letters, counts = runs(meaning)
        for wanted, word in self._by_letters.get(letters, ()):
            if all(map(may_mean, letters, counts, wanted)):
                return word
        return None

    def _allows(self, host: str) -> bool:
        return any(host == site or host.endswith(f".{site}") for site in self.sites)


class Memory:
    """What the file knows while the bot runs: read from the store once, as each message needs it."""

    def __init__(self) -> None:
        self.rules: Rules | None = None
        # Until when, in seconds since the epoch, by user. Not in the store alone: `?forgetme` must not leave a user
        # muted for ever.
        self.muted: dict[int, float] | None = None
        # When users have last offended. Likewise: who writes ?forgetme after a warning must not begin anew each time.
        self.offended: dict[int, list[float]] = {}
        self.answered: dict[int, float] = {}
        self.told_at = -math.inf

    async def read_rules(self, store: Any) -> Rules:
        """The rules in force."""
        if self.rules is None:
            self.rules = Rules(await store.all())
        return self.rules

    async def read_muted(self, store: Any) -> dict[int, float]:
        """Whom the file has muted, and until when; also before the bot was started anew."""
        if self.muted is None:
            users = await store.users()
            self.muted = {user: kept["muted_until"] for user, kept in users.items() if "muted_until" in kept}
        return self.muted

    def count_offence(self, user: int) -> int:
        """How often the user has offended within a day, as far as this bot has seen it, without this time."""
        before = [at for at in self.offended.pop(user, []) if time.time() - at < DAY_S]
        self.offended[user] = [*before, time.time()][-MAX_OFFENCES:]
        if len(self.offended) > MAX_USERS:
            del self.offended[next(iter(self.offended))]
        return len(before)

    def may_answer(self, user: int) -> bool:
        """Whether this is not one of several messages that the user has written at once. Called once for each."""
        now = time.monotonic()
        is_late = now - self.answered.get(user, -math.inf) >= GRACE_S
        if is_late:
            if len(self.answered) >= MAX_USERS:
                self.answered.clear()
            self.answered[user] = now
        return is_late


memory = Memory()


# --- messages -------------------------------------------------------------------------------------------------------


@on_message
async def check(event: Event) -> None:
    """Look at each message of users who are no admins."""
    if event.message is None or event.user_id is None or event.is_admin:
        return
    rules = await memory.read_rules(event.store)
    word = rules.offence(event.message.text)
    if word is not None and memory.may_answer(event.user_id):
        await answer(event, event.user_id, word)


async def answer(event: Event, user: int, word: str) -> None:
    """Warn, mute or kick a user for a word, or for a link if it is empty, and remember it."""
    mine = event.store.of(user)
    before = recent(await mine.get("offences", []))
    done = await act(event, user, max(len(before), memory.count_offence(user)))
    # Remembered before it is said: a message may fail, and the mute has to end all the same.
    await make_place(event, user)
    offence = {"at": round(time.time()), "word": word, "done": done}
    await mine.set("offences", [*before, offence][-MAX_OFFENCES:])
    if done == "muted":
        await mine.set("muted_until", round(time.time() + MUTE_S))
    what = "that word is" if word else "such links are"
    name = await event.display_name()
    says = {
        "warned": f"{name}, {what} not welcome here",
        "muted": f"{name} is muted for {span(MUTE_S)}: {what} not welcome here",
        "kicked": f"{name} is kicked: {what} not welcome here",
    }
    await event.reply(says[done])


async def act(event: Event, user: int, offences: int) -> str:
    """Mute or kick a user, if so many earlier offences demand it and the bot may; returns what was done."""
    muted = await memory.read_muted(event.store)
    try:
        if offences == 1:
            await event.rave.mute(user)
            muted[user] = time.time() + MUTE_S
            return "muted"
        if offences >= 2:
            await event.rave.kick(user)
            return "kicked"
    except RaveError as error:
        await tell_missing_right(event, error)
    return "warned"


async def tell_missing_right(event: Event, error: RaveError) -> None:
    """Say that the bot may not mute and kick, if that is why a call has failed; not each time."""
    is_refused = error.code in (Code.FORBIDDEN, Code.REFUSED)
    if is_refused and time.monotonic() - memory.told_at >= TELL_EVERY_S:
        memory.told_at = time.monotonic()
        await event.send("I can't mute and kick here, as I am not the leader. The leader can make me so in the app")


def recent(offences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the last day."""
    return [each for each in offences if time.time() - each["at"] < DAY_S]


async def make_place(event: Event, user: int) -> None:
    """Forget the offences of the user who has long had none, if there is no place for those of one more."""
    users = {who: kept["offences"] for who, kept in (await event.store.users()).items() if "offences" in kept}
    if len(users) >= MAX_USERS and user not in users:
        oldest = min(users, key=lambda who: users[who][-1]["at"])
        await event.store.of(oldest).delete("offences")


# --- what time brings -----------------------------------------------------------------------------------------------


@every("30s")
async def unmute(event: Event) -> None:
    """End the mutes whose time is over."""
    muted = await memory.read_muted(event.store)
    for user in [user for user, until in muted.items() if until <= time.time()]:
        try:
            await event.rave.unmute(user)
        except RaveError as error:
            # A user who has left can't be unmuted. Otherwise it may be that the bot leads the room again later.
            if error.code is not Code.NOT_FOUND:
                muted[user] = time.time() + RETRY_S
                await tell_missing_right(event, error)
                continue
        del muted[user]
        await event.store.of(user).delete("muted_until")


@every("1h")
async def forget(event: Event) -> None:
    """Forget what is older than a day."""
    for user, kept in (await event.store.users()).items():
        mine = event.store.of(user)
        if "offences" in kept and not recent(kept["offences"]):
            await mine.delete("offences")
        if time.time() - kept.get("muted_until", math.inf) > DAY_S:
            (await memory.read_muted(event.store)).pop(user, None)
            await mine.delete("muted_until")


# --- commands -------------------------------------------------------------------------------------------------------


@command(
    "filter add",
    "Users may no longer write a word.",
    permission=Permission.ADMIN,
    group="Order",
    example="spoiler",
)
async def add(context: Context, word: str) -> None:
    """Add a word to the list."""
    word = as_in_the_list(word)
    words = (await memory.read_rules(context.store)).words
    if word in words:
        raise UserError("that word is in the list already")
    if len(words) >= MAX_WORDS:
        raise UserError(f"there are {MAX_WORDS} words already", hint="remove one first")
    await context.store.set("words", [*words, word])
    memory.rules = None
    await context.reply("Users may no longer write that")


@command(
    "filter remove",
    "Users may write a word again, or no longer a link to a site.",
    permission=Permission.ADMIN,
    group="Order",
    example="spoiler",
)
async def remove(context: Context, word: str) -> None:
    """Remove a word, or a site that was allowed, from its list."""
    rules = await memory.read_rules(context.store)
    if (site := as_site(word)) in rules.sites:
        await context.store.set("sites", [each for each in rules.sites if each != site])
    elif (word := as_in_the_list(word)) in rules.words:
        await context.store.set("words", [each for each in rules.words if each != word])
    else:
        raise UserError("that is not in the list", hint=f"see {context.prefixes[0]}filter list")
    memory.rules = None
    await context.reply("Removed")


@command(
    "filter links",
    "Turns links of users on or off.",
    permission=Permission.ADMIN,
    group="Order",
    example="off",
)
async def links(context: Context, allowed: Literal["on", "off"]) -> None:
    """Allow links, or only those to sites that are allowed."""
    await context.store.set("links", allowed)
    memory.rules = None
    await context.reply("Users may write links" if allowed == "on" else "Users may not write links")


@command(
    "filter allow",
    "Links to a site are welcome even if links are off.",
    permission=Permission.ADMIN,
    group="Order",
    example="example.org",
)
async def allow(context: Context, site: str) -> None:
    """Add a site to those that are allowed."""
    host = as_site(site)
    if not host:
        raise UserError("that is no site", hint="write it as example.org")
    sites = (await memory.read_rules(context.store)).sites
    if host not in sites:
        if len(sites) >= MAX_SITES:
            raise UserError(f"there are {MAX_SITES} sites already", hint="remove one first")
        await context.store.set("sites", [*sites, host])
        memory.rules = None
    await context.reply(f"Users may write links to {host}")


@command("filter list", "Tells what users may not write.", permission=Permission.ADMIN, group="Order")
async def show(context: Context) -> None:
    """Tell all that is in force."""
    rules = await memory.read_rules(context.store)
    sites = f", but to {', '.join(rules.sites)}" if rules.sites and rules.links == "off" else ""
    await context.reply(f"Words: {', '.join(rules.words) or 'none'}\nLinks: {rules.links}{sites}")


@command(
    "filter history",
    "Tells who wrote what is not welcome, within a day.",
    permission=Permission.ADMIN,
    group="Order",
    example="@Ann",
)
async def history(context: Context, user: UserId | None = None) -> None:
    """Tell the latest offences of all users or of one, the latest first."""
    users = await context.store.users()
    found = [
        (each["at"], who, each)
        for who, kept in users.items()
        if user in (None, who)
        for each in recent(kept.get("offences", []))
    ]
    found.sort(key=lambda each: each[:2], reverse=True)
    lines = []
    for at, who, each in found[:MAX_SHOWN]:
        what = f"“{each['word']}”" if each["word"] else "a link"
        lines.append(f"• {span(time.time() - at)} ago: {await context.people.name(who)} wrote {what}: {each['done']}")
    await context.reply("\n".join(lines) or "Nothing within a day")


def as_in_the_list(word: str) -> str:
    """A word as the list has it: without what its letters may be written with. Raises UserError if it is none."""
    letters = "".join(PIECE.findall(plain(word)))
    if len(word.split()) != 1 or not 2 <= len(letters) <= MAX_WORD_CHARS:
        raise UserError(f"that is no word of 2 to {MAX_WORD_CHARS} letters", hint="give one word at a time")
    return letters


def as_site(text: str) -> str:
    """The host that is written, with or without https://; empty if it is none."""
    _, _, name = text[: 2 * MAX_SITE_CHARS].casefold().rpartition("://")
    host = name.partition("/")[0].strip(".").removeprefix("www.")
    return host if HOST.fullmatch(host) and len(host) <= MAX_SITE_CHARS else ""


def span(seconds: float) -> str:
    """A time for people, such as 10 min."""
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
