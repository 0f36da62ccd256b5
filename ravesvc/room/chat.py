"""Chat messages, coming and going; no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.picture import Media
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError
from ravesvc.room.state import user_id

# With modifiers, joiners and tags: a family has seven characters, a flag of a region as many.
_MAX_EMOJI_CHARS = 16
_SYMBOL = "[\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
_MODIFIED = f"{_SYMBOL}\ufe0f?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
# What keyboards add to one emoji: how it is drawn, and the colour of its skin.
_LOOKS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")
_EMOJI = re.compile(rf"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_MODIFIED}(?:\u200d{_MODIFIED})*")
# Ids are UUIDs. `OwnMessages` stores ids that the server chooses, so their length has a bound.
_MAX_ID_CHARS = 128
# Attachments that are read of a message, and the characters of a text in one.
_MAX_MEDIA = 16
_MAX_MEDIA_TEXT_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Mention:
    """A user mentioned in a text that contains @handle."""

    user_id: int
    handle: str


class Reaction(NamedTuple):
    """A reaction to a message: one emoji, and the id of that message."""

    emoji: str
    to: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A chat message from the server, or a reaction to one.

    Attributes:
        id: chosen by the sender, or replaced by the server; empty if there is none.
        sender_peer: peer id of the sender; holds the id of the person's device, so never show it.
        sender: user id of the sender, None if the peer id has none.
        text: may be empty (a reaction, a picture).
        reply_to: id of the message that this one answers.
        mentions: the users mentioned.
        media: pictures and clips; where they are is the sender's word, and may be anywhere.
        reaction: None for a message; a reaction has neither a text nor media.
    """

    id: str
    sender_peer: str
    sender: int | None
    text: str
    reply_to: str | None
    mentions: tuple[Mention, ...]
    media: tuple[Media, ...] = ()
    reaction: Reaction | None = None

    @property
    def answered_as(self) -> str | None:
        """The id that an answer names: its own, or that of the message to which it is a reaction."""
        return (self.reaction.to if self.reaction else self.id) or None


def is_emoji(text: str) -> bool:
    """Whether a text is one emoji."""
    return len(text) <= _MAX_EMOJI_CHARS and _EMOJI.fullmatch(text) is not None


def same_emoji(one: str, other: str) -> bool:
    """Whether two emoji differ in nothing but how they are drawn, and the colour of their skin."""
    plain = _LOOKS.sub("", one)
    # The colours are emoji as well: without them nothing is left.
    return one == other or (plain != "" and plain == _LOOKS.sub("", other))


def parse_chat(data: Object) -> ChatMessage:
    """Read the data of a chatMessage; raises `RaveError` (BadData)."""
    peer = _paired(json_fields.get_str(data, "from"))
    message_id = _paired(json_fields.opt_str(data, "id") or "")
    reply_to = json_fields.opt_str(data, "reply")
    if len(message_id) > _MAX_ID_CHARS or len(peer) > _MAX_ID_CHARS:
        raise RaveError(Code.BAD_DATA, "an id of the chat message is too long")
    text = _paired(json_fields.opt_str(data, "chat") or "")
    if not text and (reaction := _reaction(data)):
        return ChatMessage(message_id, peer, user_id(peer.partition("_")[0]), "", None, (), reaction=reaction)
    return ChatMessage(
        id=message_id,
        sender_peer=peer,
        sender=user_id(peer.partition("_")[0]),
        text=text,
        reply_to=None if reply_to is None else _paired(reply_to),
        mentions=tuple(_mentions(json_fields.opt_list(data, "user_metas") or ())),
        media=tuple(_media(data.get("media"))),
    )


def _reaction(data: Object) -> Reaction | None:
    """The reaction that a message without a text is; raises `RaveError` (BadData) for one that is none of ours."""
    to = _paired(json_fields.opt_str(data, "reaction") or "")
    if not to:
        return None
    emoji = json_fields.opt_str(data, "emoji") or ""
    if len(to) > _MAX_ID_CHARS or not is_emoji(emoji):
        raise RaveError(Code.BAD_DATA, "a reaction is no emoji, or to no message")
    return Reaction(emoji, to)


def reaction_data(reaction_id: str, reaction: Reaction) -> Object:
    """The data of a chatMessage that is a reaction of ours, with the keys that the one known client sends."""
    return {
        "chat": "",
        "id": reaction_id,
        "detected_lang": None,
        "translations": None,
        "reply": None,
        "emoji": reaction.emoji,
        "reaction": reaction.to,
        "media": [],
        "links": [],
    }


def chat_data(
    message_id: str,
    text: str,
    lang: str,
    reply_to: str | None,
    mentions: Sequence[Mention],
    media: Sequence[Media] = (),
) -> Object:
    """The data of a chatMessage of ours. `reply`, `user_metas` and `media` are there only when they say something."""
    data: dict[str, Any] = {"chat": text, "id": message_id, "detected_lang": lang, "translations": {}}
    if reply_to is not None:
        data["reply"] = reply_to
    if mentions:
        data["user_metas"] = [{"handle": mention.handle, "id": mention.user_id} for mention in mentions]
    if media:
        data["media"] = [_attachment(index, each) for index, each in enumerate(media)]
    return data


def _attachment(index: int, media: Media) -> dict[str, Any]:
    """All the keys that clients are known to send; each sends some."""
    return {
        "index": index,
        "url": media.url,
        "mime": media.mime,
        "isExplicit": False,
        "aspectRatio": media.aspect_ratio,
        "thumbnailUrl": "",
    }


def _media(entries: object) -> list[Media]:
    """The entries that can be read, of a few; others may be of a kind that we do not know, and cost no text."""
    found = []
    for entry in entries[:_MAX_MEDIA] if isinstance(entries, list) else ():
        source = entry if isinstance(entry, dict) else {}
        url, mime, ratio = (
            printable(source.get(key), _MAX_MEDIA_TEXT_CHARS) for key in ("url", "mime", "aspectRatio")
        )
        if url:
            found.append(Media(url, mime, ratio))
    return found


def _mentions(entries: Sequence[object]) -> list[Mention]:
    """The mentions of all entries that can be read; others are left out."""
    found = []
    for entry in entries:
        user = user_id(entry)
        handle = entry.get("handle") if isinstance(entry, dict) else None
        if user is not None:
            found.append(Mention(user, _paired(handle) if isinstance(handle, str) else ""))
    return found


def _paired(text: str) -> str:
    """`text` without half surrogate pairs: JSON can spell them, but no log or bus can write them."""
    return text.encode(errors="replace").decode()


class OwnMessages:
    """The ids under which our messages are known, ours and those that the server gave them; the oldest go."""

    def __init__(self, limit: int = 200) -> None:
        self._limit = limit
        # From each id to the one that the message was sent under; a dict keeps the order of insertion.
        self._ids: dict[str, str] = {}

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    def ids_of(self, message_id: str) -> frozenset[str]:
        """All ids of the message that has this one, which is among them."""
        sent = self._ids.get(message_id, message_id)
        return frozenset({message_id, *(other for other, first in self._ids.items() if first == sent)})

    def shown_as(self, message_id: str) -> str:
        """The id by which others know the message: the server's latest, if it has given one of its own."""
        sent = self._ids.get(message_id, message_id)
        return next((each for each, first in reversed(self._ids.items()) if first == sent != each), message_id)

    def remember(self, message_id: str, sent_as: str | None = None) -> None:
        """Add an id, or make it the newest; `sent_as` is that which the message was sent under, if another."""
        self._ids[message_id] = self._ids.pop(message_id, sent_as or message_id)
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
