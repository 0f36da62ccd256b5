"""The queue of a room: which videos come next, who asked for them, in a fair order. Pure and immutable.

Users take turns, however many videos each has asked for: an entry belongs to a round, a user has one entry in a
round, and rounds play one after another. An entry never moves back behind one that was there before it, unless that
one's user has had more turns. Turns count for as long as videos of the queue play one after another: with the first
entry of an empty queue, while nothing of it plays, all begin anew.

    asked:  Ann 1, Ann 2, Ann 3, Bob 1, Cem 1       plays:  Ann 1, Bob 1, Cem 1, Ann 2, Ann 3
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import printable
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import ngettext
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

# A queue grows by less than 20 KiB after its last video was added: as videos are requested, chosen and played.
MAX_QUEUE_BYTES = 36 * 1024
# Videos that commands have voted for, of which one will play at most.
_MAX_CHOSEN = 2
_MAX_ID_CHARS = 128
_MAX_URL_CHARS = 500
_MAX_ROUND = 2**31
_MAX_SERVED = 64
# A link that contains a shorter id need not be about that video.
_MIN_DISTINCT_ID_CHARS = 6


class QueueLimits(NamedTuple):
    """How many entries a queue takes, of one user and of all together."""

    per_user: int = 5
    total: int = 50


class Showing(NamedTuple):
    """One showing of a video, as the room reports it; an empty text is unknown.

    Attributes:
        url: Rave's URL of the video.
        video_url: the provider's.
        instance_id: tells two showings of one video apart.
    """

    url: str
    video_url: str = ""
    instance_id: str = ""

    def is_same(self, other: Showing) -> bool:
        """Whether the two are not known to differ."""
        if self.instance_id and other.instance_id:
            return self.instance_id == other.instance_id
        return same_url(self.url, other.url)


class QueueEntry(NamedTuple):
    """One video that a user asked for.

    Attributes:
        asked_at: when, in Unix seconds.
        round: see the module.
    """

    video: Video
    user: int
    asked_at: int
    round: int = 0

    @property
    def title(self) -> str:
        """What to call it in a sentence."""
        return self.video.title or self.video.url

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return {"video": self.video.to_object(), "user": self.user, "asked_at": self.asked_at, "round": self.round}

    @classmethod
    def from_object(cls, source: Object) -> QueueEntry:
        """Read what `to_object` wrote; raises `RaveError` (BadData)."""
        return cls(
            video=Video.from_object(json_fields.get_object(source, "video")),
            user=json_fields.get_int(source, "user"),
            asked_at=max(0, json_fields.opt_int(source, "asked_at") or 0),
            round=min(max(0, json_fields.opt_int(source, "round") or 0), _MAX_ROUND),
        )


class QueueRequest(NamedTuple):
    """An entry whose turn it is, with what is needed to recognise it when it plays.

    Attributes:
        url: Rave's URL of the video; empty until it is registered.
        before: the showing that went on, or had ended last, when its turn came; it may be of the same video.
    """

    entry: QueueEntry
    url: str = ""
    before: str = ""

    def is_shown_by(self, showing: Showing) -> bool:
        """Whether the room shows this video, and not the showing that came before."""
        return _is_shown(self.entry.video, self.url, self.before, showing)

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return {"entry": self.entry.to_object(), "url": self.url, "before": self.before}

    @classmethod
    def from_object(cls, source: Object) -> QueueRequest:
        """Read what `to_object` wrote; raises `RaveError` (BadData)."""
        return cls(
            entry=QueueEntry.from_object(json_fields.get_object(source, "entry")),
            url=printable(source.get("url"), _MAX_URL_CHARS),
            before=printable(source.get("before"), _MAX_ID_CHARS),
        )


class Removed(NamedTuple):
    """A video that was taken out of the queue when Rave had the bot's vote for it. Whose it was is not kept.

    Attributes:
        url: Rave's URL of the video.
        before: the showing that went on when it was removed.
    """

    video: Video
    url: str
    before: str = ""

    def is_shown_by(self, showing: Showing) -> bool:
        """Whether the room shows this video, and has begun to after it was removed."""
        return _is_shown(self.video, self.url, self.before, showing)

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return {"video": self.video.to_object(), "url": self.url, "before": self.before}

    @classmethod
    def from_object(cls, source: Object) -> Removed:
        """Read what `to_object` wrote; raises `RaveError` (BadData)."""
        return cls(
            video=Video.from_object(json_fields.get_object(source, "video")),
            url=printable(source.get("url"), _MAX_URL_CHARS),
            before=printable(source.get("before"), _MAX_ID_CHARS),
        )


class QueuePlaying(NamedTuple):
    """What the room shows that was asked for by way of the bot, or has shown last."""

    entry: QueueEntry
    showing: Showing

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return {"entry": self.entry.to_object(), **self.showing._asdict()}

    @classmethod
    def from_object(cls, source: Object) -> QueuePlaying:
        """Read what `to_object` wrote; raises `RaveError` (BadData)."""
        return cls(
            entry=QueueEntry.from_object(json_fields.get_object(source, "entry")),
            showing=Showing(
                printable(source.get("url"), _MAX_URL_CHARS),
                printable(source.get("video_url"), _MAX_URL_CHARS),
                printable(source.get("instance_id"), _MAX_ID_CHARS),
            ),
        )


class Queue(NamedTuple):
    """The queue of a room as it is stored. Immutable: methods that change it return a new one.

    Attributes:
        entries: those that wait, in the order in which they play.
        requested: the entry whose turn it is, until it is seen playing. It is no longer among `entries`.
        chosen: videos that commands have voted for past the queue, the newest last.
        removed: the video that the bot's vote was for when it was taken out of the queue, until Rave has that vote no
            longer, or the video has started all the same.
        playing: what plays, or has played last, if it was asked for by way of the bot.
        round: that of the entry whose turn was last.
        served: the users who have had their turn in it.
    """

    entries: tuple[QueueEntry, ...] = ()
    requested: QueueRequest | None = None
    chosen: tuple[QueueRequest, ...] = ()
    removed: Removed | None = None
    playing: QueuePlaying | None = None
    round: int = 0
    served: frozenset[int] = frozenset()

    @property
    def waiting(self) -> tuple[QueueEntry, ...]:
        """All that has yet to be seen playing, the next one first."""
        return (self.requested.entry, *self.entries) if self.requested else self.entries

    def shows_own(self, showing: Showing) -> bool:
        """Whether a showing is that of `playing`."""
        return self.playing is not None and self.playing.showing.is_same(showing)

    def position(self, video: Video) -> int | None:
        """The place of a video among those that wait, from 1 on."""
        return next((at for at, entry in enumerate(self.waiting, 1) if entry.video.key == video.key), None)

    def add(self, entry: QueueEntry, limits: QueueLimits) -> Queue:
        """Add an entry where it is its user's turn; its `round` does not matter.

        Raises `RaveError`: InvalidArgument for a video that waits already, and beyond the limits.
        """
        place = self.position(entry.video)
        if place:
            raise RaveError(
                Code.INVALID_ARGUMENT, _("that video is in the queue already, at place {place}", place=place)
            )
        waiting = self.waiting
        own = sum(other.user == entry.user for other in waiting)
        if own >= limits.per_user:
            text = ngettext(
                "you have {n} video in the queue already", "you have {n} videos in the queue already", own
            )
            # The limit may have been lowered, so a user can have more than that.
            hint = _("at most {n} may wait, so try again when enough of them have played", n=limits.per_user)
            raise RaveError(Code.INVALID_ARGUMENT, text, hint=hint)
        if len(waiting) >= limits.total:
            raise _full()
        rounds = [other.round + 1 for other in waiting if other.user == entry.user]
        entry = entry._replace(round=max(self.round + (entry.user in self.served), *rounds, 0))
        at = sum(other.round <= entry.round for other in self.entries)
        added = self._replace(entries=(*self.entries[:at], entry, *self.entries[at:]))
        if len(added.to_json().encode()) > MAX_QUEUE_BYTES:
            raise _full()
        return added

    def begin_round(self) -> Queue:
        """The queue in which each user has yet to have a turn, for when nothing waits."""
        return self._replace(served=frozenset())

    def remove(self, video: Video) -> Queue:
        """The queue without a video that waits."""
        if self.requested and self.requested.entry.video.key == video.key:
            # It has not played, so its user has not had this turn.
            return self._replace(requested=None, served=self.served - {self.requested.entry.user})
        return self._replace(entries=tuple(entry for entry in self.entries if entry.video.key != video.key))

    def clear(self) -> Queue:
        """The queue without anything that waits."""
        queue = self.remove(self.requested.entry.video) if self.requested else self
        return queue._replace(entries=())

    def without_user(self, user: int) -> Queue:
        """The queue without anything of a user, what plays included."""
        left = [entry for entry in self.waiting if entry.user == user]
        queue = self
        for entry in left:
            queue = queue.remove(entry.video)
        return queue._replace(
            chosen=tuple(request for request in self.chosen if request.entry.user != user),
            playing=None if self.playing and self.playing.entry.user == user else self.playing,
            served=self.served - {user},
        )

    def request_next(self, before: str = "") -> Queue:
        """Make it the turn of the first entry, unless one has its turn; `before` as in `QueueRequest`."""
        if self.requested or not self.entries:
            return self
        first = self.entries[0]
        served = self.served if first.round == self.round else frozenset[int]()
        if len(served) >= _MAX_SERVED:
            served = frozenset[int]()
        return self._replace(
            entries=self.entries[1:],
            requested=QueueRequest(entry=first, before=before[:_MAX_ID_CHARS]),
            round=first.round,
            served=served | {first.user},
        )

    def registered(self, video: Video, url: str, before: str) -> Queue:
        """Store Rave's URL of the requested video, unless that has been removed meanwhile."""
        if self.requested is None or self.requested.entry.video.key != video.key:
            return self
        return self._replace(
            requested=self.requested._replace(url=url[:_MAX_URL_CHARS], before=before[:_MAX_ID_CHARS])
        )

    def choose(self, entry: QueueEntry, url: str, before: str) -> Queue:
        """Store a video that a command is about to vote for."""
        request = QueueRequest(entry=entry, url=url[:_MAX_URL_CHARS], before=before[:_MAX_ID_CHARS])
        return self._replace(chosen=(*self.chosen, request)[-_MAX_CHOSEN:])

    def voted(self, *chosen: QueueRequest) -> Queue:
        """Rave has taken a vote of the bot, for `chosen` or else for the queue: it has no other one any longer."""
        return self._replace(chosen=chosen, removed=None)

    def started(self, showing: Showing) -> Queue:
        """The room shows a video: what waits no longer, because it is this one, and whose it is."""
        if self.requested and self.requested.is_shown_by(showing):
            return self._replace(requested=None, playing=QueuePlaying(entry=self.requested.entry, showing=showing))
        if self.shows_own(showing):
            return self
        chosen = next((request for request in reversed(self.chosen) if request.is_shown_by(showing)), None)
        waiting = next((entry for entry in self.entries if shows(showing, entry.video)), None)
        entry = waiting or (chosen.entry if chosen else None)
        if entry is None:
            return self
        return self._replace(
            entries=tuple(other for other in self.entries if other.video.key != entry.video.key),
            chosen=tuple(request for request in self.chosen if request is not chosen),
            playing=QueuePlaying(entry=entry, showing=showing),
        )

    def to_json(self) -> str:
        """The document that `from_json` reads."""
        document = {
            "version": 1,
            "entries": [entry.to_object() for entry in self.entries],
            "requested": self.requested.to_object() if self.requested else None,
            "chosen": [request.to_object() for request in self.chosen],
            "removed": self.removed.to_object() if self.removed else None,
            "playing": self.playing.to_object() if self.playing else None,
            "round": self.round,
            "served": sorted(self.served),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, limits: QueueLimits) -> Queue:
        """Read what `to_json` wrote; what is damaged is left out, and so is what comes twice or is too much.

        Raises `RaveError`: BadData, when it is no such document at all.
        """
        source = json_fields.parse_object(text[: 4 * MAX_QUEUE_BYTES], "the queue")
        requested = next(_readable((source.get("requested"),), QueueRequest.from_object), None)
        entries: dict[tuple[str, str], QueueEntry] = {}
        for entry in _readable(_list(source, "entries"), QueueEntry.from_object):
            if requested is None or entry.video.key != requested.entry.video.key:
                entries.setdefault(entry.video.key, entry)
        room_for = limits.total - (requested is not None)
        users = (json_fields.as_int(user) for user in _list(source, "served")[:_MAX_SERVED])
        return cls(
            entries=tuple(sorted(list(entries.values())[:room_for], key=lambda entry: entry.round)),
            requested=requested,
            chosen=tuple(_readable(_list(source, "chosen"), QueueRequest.from_object))[-_MAX_CHOSEN:],
            removed=next(_readable((source.get("removed"),), Removed.from_object), None),
            playing=next(_readable((source.get("playing"),), QueuePlaying.from_object), None),
            round=min(max(0, json_fields.as_int(source.get("round")) or 0), _MAX_ROUND),
            served=frozenset(user for user in users if user is not None),
        )


def same_url(one: str, other: str) -> bool:
    """Whether two of Rave's URLs are of the same video: the last part is its id, the host may go by another name."""
    return bool(one) and one.rpartition("/")[2] == other.rpartition("/")[2]


def shows(showing: Showing, video: Video) -> bool:
    """Whether the provider's URL of a showing is that of a video."""
    if showing.video_url == video.url:
        return True
    if len(video.id) < _MIN_DISTINCT_ID_CHARS:
        return False
    return re.search(rf"(?<![\w-]){re.escape(video.id)}(?![\w-])", showing.video_url) is not None


def _is_shown(video: Video, url: str, before: str, showing: Showing) -> bool:
    if showing.instance_id and showing.instance_id == before:
        return False
    return same_url(url, showing.url) or shows(showing, video)


def _full() -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, _("the queue is full"), hint=_("try again when some of it has played"))


def _list(source: Object, key: str) -> list[Any]:
    value = source.get(key)
    return value if isinstance(value, list) else []


def _readable(sources: Iterable[object], read: Callable[[Object], T]) -> Iterator[T]:
    """What can be read of them."""
    for source in sources:
        if isinstance(source, dict):
            with suppress(RaveError):
                yield read(source)
