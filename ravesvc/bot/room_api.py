"""What a bot can ask of Rave for its room: videos, votes, playback, moderation, privacy, profiles."""

from __future__ import annotations

from typing import Protocol

from ravesvc.api.models import Opinion, Privacy, Profile
from ravesvc.common.picture import Media, Picture
from ravesvc.common.video import Video


class RoomApi(Protocol):
    """Rave's calls for one room.

    Every method raises `RaveError`, in words fit for the chat:
        InvalidArgument: what was given makes no sense, or rave.yaml has switched the call off.
        Forbidden, Refused: Rave does not let us, mostly because only the leader may do that.
        NotFound, BadRequest: Rave knows no such video, user or room, or nothing plays.
        RateLimited: too many calls, by our own limit or Rave's; the attribute `retry_after` has the seconds to wait,
            if that is known.
        Network, Timeout, Tls, ServerError, BadData, Unauthorized, Closed: no proper answer. It is not known then
            whether a change was made, and it is not tried again, unless the error has the attribute `unsent`.
    """

    async def register(self, video: Video) -> str:
        """Make a video known to Rave; returns the URL by which votes, states and opinions name it."""

    async def vote(self, url: str) -> None:
        """Vote for a video, by the URL of `register` or of the room's state."""

    async def clear_votes(self) -> None:
        """Clear all votes of the room."""

    async def like(self, url: str, instance_id: str) -> None:
        """Like the video that plays; URL and id of the playing are those of the room's state."""

    async def vote_skip(self, url: str, instance_id: str) -> None:
        """Vote to skip the video that plays."""

    async def withdraw(self, opinion: Opinion, url: str, instance_id: str) -> None:
        """Withdraw a like or a vote to skip."""

    async def set_playback(self, position: float, *, playing: bool) -> None:
        """Play on from a position, in seconds of the video, or pause there."""

    async def end_video(self) -> None:
        """End the video for all."""

    async def kick(self, user: int) -> None:
        """Kick a user."""

    async def mute(self, user: int) -> None:
        """Mute a user."""

    async def unmute(self, user: int) -> None:
        """Unmute a user."""

    async def transfer_leadership(self, user: int) -> None:
        """Make a user the leader."""

    async def privacy(self) -> Privacy:
        """Who finds the room now, and may come without an invitation."""

    async def set_privacy(self, privacy: Privacy) -> None:
        """Change that. Users who are in the room stay there."""

    async def upload(self, picture: Picture) -> Media:
        """Send a picture, so that a chat message can show it. Raises TooLarge as well."""

    async def profile(self, user: int) -> Profile:
        """What a user says of themselves."""
