"""Rave's calls for one room, as `ravesvc.bot.room_api.RoomApi` describes them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from ravesvc import names
from ravesvc.api import client, failures, models, transport
from ravesvc.api.client import Api
from ravesvc.api.models import Opinion, Privacy, Profile
from ravesvc.api.upload import Uploads, place
from ravesvc.common.json_fields import Object
from ravesvc.common.picture import Media, Picture
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import YOUTUBE, Video
from ravesvc.config.worker_options import DEFAULT_API, UnconfirmedCalls
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

# Thirty calls a minute, and some at once: to play a video takes two, to show what a search has found three.
# What moderates and what plays the queue have rates of their own, or a user who repeats ?like would stop both.
MODERATION_RATE = Rate(10, 0.5)
PLAYING_RATE = Rate(20, 0.5)
OTHER_RATE = Rate(20, 0.5)
# A longer pause than this, in seconds, is told to the user who waits for the answer.
_MAX_PAUSE_S = 5.0
_MAX_URL_CHARS = 2000
_MAX_INSTANCE_ID_CHARS = 64

# What a refusal means, by what was asked for.
_LEADER_ONLY = _("only the leader can do that")
_MAYBE_LEADER_ONLY = _("Rave refuses, most likely because only the leader can do that")
_ABOUT_VIDEO = {
    Code.BAD_REQUEST: _("Rave does not take this video"),
    Code.FORBIDDEN: _("Rave does not let the bot do that in this room"),
    Code.NOT_FOUND: _("this video is unknown to Rave"),
}
_ABOUT_NEW_VIDEO = _ABOUT_VIDEO | {Code.NOT_FOUND: _("Rave takes no videos of this provider")}
_ABOUT_PLAYBACK = {
    Code.FORBIDDEN: _LEADER_ONLY,
    Code.NOT_FOUND: _("Rave finds nothing that plays in this room"),
    Code.REFUSED: _MAYBE_LEADER_ONLY,
}
_ABOUT_USER = {
    Code.FORBIDDEN: _LEADER_ONLY,
    Code.NOT_FOUND: _("Rave finds no such user in this room"),
    Code.REFUSED: _MAYBE_LEADER_ONLY,
}
_ABOUT_ROOM = {
    Code.FORBIDDEN: _LEADER_ONLY,
    Code.NOT_FOUND: _("Rave finds no such room"),
    Code.REFUSED: _MAYBE_LEADER_ONLY,
}
_ABOUT_PICTURE = {
    Code.BAD_REQUEST: _("Rave does not take this picture"),
    Code.FORBIDDEN: _("Rave does not let the bot show pictures in this room"),
}
_ABOUT_PROFILE = {
    Code.FORBIDDEN: _("Rave does not show this profile to the bot"),
    Code.NOT_FOUND: _("Rave knows no such user"),
}


class HttpRoomApi:
    """The calls for one mesh, over an `Api` that others use as well. Implements `ravesvc.bot.room_api.RoomApi`."""

    def __init__(
        self,
        api: Api,
        mesh: str,
        unconfirmed: UnconfirmedCalls,
        uploads: Uploads,
        *,
        asking: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare it.

        Args:
            api: asks Rave.
            mesh: its id.
            unconfirmed: what is switched off.
            uploads: sends pictures to where Rave says.
            asking: entered around each request; may refuse it, and sees how it fails.
            clock: monotonic seconds.
            wall: seconds since the epoch.
        """
        self._api = api
        self._path = f"/meshes/{names.mesh_id(mesh)}"
        self._unconfirmed = unconfirmed
        self._uploads = uploads
        self._asking = asking
        self._clock = clock
        self._wall = wall
        self._moderation = TokenBucket(MODERATION_RATE, clock())
        self._playing = TokenBucket(PLAYING_RATE, clock())
        self._other = TokenBucket(OTHER_RATE, clock())

    async def register(self, video: Video) -> str:
        """See `RoomApi`."""
        what = _("giving Rave the video")
        if video.provider != YOUTUBE:
            self._require_enabled(what, "other_providers")
        path = f"/videos/{video.provider}"
        video_id = await self._ask(
            self._playing, what, "POST", path, _ABOUT_NEW_VIDEO, models.video_id, _description(video)
        )
        return f"{await self._video_base()}{path}/{video_id}"

    async def vote(self, url: str) -> None:
        """See `RoomApi`."""
        now = self._wall()
        when = int(now * 1000) if self._unconfirmed.vote_time == "milliseconds" else now
        body = {"deviceId": self._api.device_id, "time": when, "url": _video_url(url)}
        await self._do(self._playing, _("voting for the video"), "POST", f"{self._path}/votes", _ABOUT_VIDEO, body)

    async def clear_votes(self) -> None:
        """See `RoomApi`."""
        what = _("clearing the votes")
        self._require_enabled(what, "clear_votes")
        await self._do(self._other, what, "POST", f"{self._path}/votes/clear", _ABOUT_PLAYBACK)

    async def like(self, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        await self._send_opinion(_("liking the video"), Opinion.LIKE, url, instance_id)

    async def vote_skip(self, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        await self._send_opinion(_("voting to skip the video"), Opinion.SKIP, url, instance_id)

    async def withdraw(self, opinion: Opinion, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        query = urlencode(_opinion(opinion, url, instance_id))
        path = f"{self._path}/likeskip?{query}"
        await self._do(self._other, _("withdrawing the opinion on the video"), "DELETE", path, _ABOUT_VIDEO)

    async def set_playback(self, position: float, *, playing: bool) -> None:
        """See `RoomApi`."""
        what = _("playing from there") if playing else _("pausing there")
        self._require_enabled(what, "playback")
        if not math.isfinite(position) or position < 0:
            raise RaveError(Code.INVALID_ARGUMENT, _("a position in a video is a number of seconds from 0 on"))
        body = {"position": position, "state": "PLAY" if playing else "PAUS", "time": self._wall()}
        await self._do(self._other, what, "PUT", f"{self._path}/state", _ABOUT_PLAYBACK, body)

    async def end_video(self) -> None:
        """See `RoomApi`."""
        what = _("ending the video")
        self._require_enabled(what, "end_video")
        await self._do(self._other, what, "POST", f"{self._path}/state/endstream", _ABOUT_PLAYBACK)

    async def kick(self, user: int) -> None:
        """See `RoomApi`."""
        body = {"deviceId": self._api.device_id, "ids": [_user(user)], "includeOnline": False}
        await self._do(self._moderation, _("kicking that user"), "POST", f"{self._path}/kick", _ABOUT_USER, body)

    async def mute(self, user: int) -> None:
        """See `RoomApi`."""
        await self._do(
            self._moderation,
            _("muting that user"),
            "POST",
            f"{self._path}/mute/{_user(user)}",
            _ABOUT_USER,
            {},
        )

    async def unmute(self, user: int) -> None:
        """See `RoomApi`."""
        await self._do(
            self._moderation,
            _("unmuting that user"),
            "POST",
            f"{self._path}/unmute/{_user(user)}",
            _ABOUT_USER,
            {},
        )

    async def transfer_leadership(self, user: int) -> None:
        """See `RoomApi`."""
        body = {"newLeaderId": _user(user)}
        what = _("making that user the leader")
        await self._do(self._moderation, what, "POST", f"{self._path}/transferleadership", _ABOUT_USER, body)

    async def privacy(self) -> Privacy:
        """See `RoomApi`."""
        return await self._read_room(_("reading who finds this room"), models.privacy)

    async def set_privacy(self, privacy: Privacy) -> None:
        """See `RoomApi`.

        The one source that describes the call sends all settings of a room at once. Whether the server resets those
        that are missing is unknown, so those that it has told go along as they are. Latitude, longitude and radius,
        which it does not tell, are left out.
        """
        what = _("changing who finds this room")
        self._require_enabled(what, "privacy")
        others = await self._read_room(what, models.other_settings)
        body = {"isFriend": privacy.friends, "isLocal": privacy.local, "isPublic": privacy.public, **others}
        await self._do(self._moderation, what, "PUT", self._path, _ABOUT_ROOM, body)

    async def upload(self, picture: Picture) -> Media:
        """See `RoomApi`."""
        what = _("sending a picture")
        body = {"media": [{"index": 0, "mime": picture.mime, "isExplicit": False}]}
        where = await self._ask(self._other, what, "POST", f"{self._path}/images/upload", _ABOUT_PICTURE, place, body)
        try:
            await self._uploads.send(where, picture)
        except RaveError as e:
            raise RaveError(e.code, _failed(what, e.message), hint=e.hint, **e.attributes) from None
        return Media(where.posting_url, picture.mime, picture.aspect_ratio)

    async def profile(self, user: int) -> Profile:
        """See `RoomApi`."""
        what = _("reading the profile of user {user}", user=user)
        self._require_enabled(what, "profiles")
        path = f"/profiles/{_user(user)}?exclude=false&clientVersion=1"
        return await self._ask(self._other, what, "GET", path, _ABOUT_PROFILE, models.profile)

    async def _send_opinion(self, what: str, opinion: Opinion, url: str, instance_id: str) -> None:
        await self._do(
            self._other, what, "PUT", f"{self._path}/likeskip", _ABOUT_VIDEO, _opinion(opinion, url, instance_id)
        )

    async def _read_room(self, what: str, read: Callable[[Object], T]) -> T:
        """What `read` makes of what Rave says of the room, which has its users as well."""
        return await self._ask(
            self._moderation, what, "GET", self._path, _ABOUT_ROOM, read, max_bytes=transport.USERS_ANSWER_BYTES
        )

    async def _video_base(self) -> str:
        """What the URLs of videos begin with: the room's, if it is to be that and the room plays something."""
        if self._unconfirmed.video_host == "rave":
            return DEFAULT_API
        what = _("reading what the room plays")
        # The answer has the users of the room as well.
        base = await self._ask(
            self._playing, what, "GET", self._path, {}, models.video_base, max_bytes=transport.USERS_ANSWER_BYTES
        )
        return base or DEFAULT_API

    def _require_enabled(self, what: str, switch: str) -> None:
        """Raise `RaveError` (InvalidArgument) for what rave.yaml has switched off."""
        if not getattr(self._unconfirmed, switch):
            option = f"unconfirmed_calls.{switch}"
            hint = _("who runs the bot may set {option} to true in rave.yaml", option=option)
            raise RaveError(Code.INVALID_ARGUMENT, _("{what} is switched off for this bot", what=what), hint=hint)

    def _take_token(self, calls: TokenBucket, what: str) -> None:
        """Take one of the calls that we may make; raise `RaveError` (RateLimited) when there is none left."""
        wait = calls.take(self._clock())
        if wait > 0:
            seconds = math.ceil(wait)
            text = _("{what} has to wait: the bot has asked Rave for a lot in this room", what=what)
            hint = _("try again in {seconds} s", seconds=seconds)
            raise RaveError(Code.RATE_LIMITED, text, hint=hint, retry_after=seconds)

    async def _do(
        self,
        calls: TokenBucket,
        what: str,
        method: str,
        path: str,
        refusals: Mapping[Code, str],
        body: dict[str, Any] | None = None,
    ) -> None:
        """Ask for what has no answer but yes or no."""
        await self._ask(calls, what, method, path, refusals, lambda _answer: None, body)

    async def _ask(
        self,
        calls: TokenBucket,
        what: str,
        method: str,
        path: str,
        refusals: Mapping[Code, str],
        read: Callable[[Object], T],
        body: dict[str, Any] | None = None,
        max_bytes: int = transport.SMALL_ANSWER_BYTES,
    ) -> T:
        """What `read` makes of the answer; it counts as one of `calls`, `refusals` say what a refusal means here."""
        self._take_token(calls, what)
        try:
            with self._asking():
                return await self._api.call(
                    what, method, path, read, body, may_repeat=_may_repeat, max_bytes=max_bytes
                )
        except RaveError as e:
            raise _in_words(what, e, refusals) from None


def _may_repeat(method: str, error: RaveError) -> bool:
    """As any call, but not for as long as Rave may want: a user waits."""
    return (failures.pause(error) or 0.0) <= _MAX_PAUSE_S and client.is_repeatable(method, error)


def _in_words(what: str, error: RaveError, refusals: Mapping[Code, str]) -> RaveError:
    """A failure in the words for what was asked, if it is one of the `refusals`; else as it is."""
    words = refusals.get(error.code)
    if words is None:
        return error
    # Who asks may not be the leader, and the bot can't make itself one.
    hint = (
        _("the leader can make the bot the leader in the app")
        if words in (_LEADER_ONLY, _MAYBE_LEADER_ONLY)
        else error.hint
    )
    return RaveError(error.code, _failed(what, words), hint=hint, **error.attributes)


def _failed(what: str, why: str) -> str:
    return _("{what} failed: {why}", what=what, why=why)


def _description(video: Video) -> dict[str, Any]:
    """A video as Rave's servers want it; the fields that all sources send, and those of the one with the most."""
    picture = video.thumbnail or None
    return {
        "providerId": video.id,
        "title": video.title,
        "author": video.author or None,
        "description": None,
        "duration": _duration(video.seconds or 0.0),
        "isLive": video.live,
        "maturity": "18+" if video.mature else "G",
        "thumbnail": picture,
        "thumbnails": {"animated": None, "channel": None, "high": picture} if picture else None,
        "url": video.url,
        "videoTags": [],
        "viewCount": video.views,
    }


def _duration(seconds: float) -> str:
    """ISO 8601, always with all three parts."""
    minutes, rest = divmod(round(seconds), 60)
    return f"PT{minutes // 60}H{minutes % 60}M{rest}S"


def _opinion(opinion: Opinion, url: str, instance_id: str) -> dict[str, str]:
    if not instance_id or len(instance_id) > _MAX_INSTANCE_ID_CHARS or not instance_id.isprintable():
        raise RaveError(Code.INVALID_ARGUMENT, _("Rave has not said which playing of the video this is"))
    return {"opinion": opinion.value, "url": _video_url(url), "videoInstanceId": instance_id}


def _video_url(url: str) -> str:
    if not url.startswith("https://") or len(url) > _MAX_URL_CHARS or not url.isascii() or not url.isprintable():
        raise RaveError(Code.INVALID_ARGUMENT, _("that is not the URL of a video"))
    return url


def _user(user: int) -> int:
    if user <= 0:
        raise RaveError(Code.INVALID_ARGUMENT, _("that is not the id of a user"))
    return user
