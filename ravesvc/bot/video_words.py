"""What the bot says about videos and their queue. No line begins with a stranger's text: it might be a command."""

from __future__ import annotations

from ravesvc.bot.queue import Queue, QueueEntry
from ravesvc.bot.queue_scheduler import FORBIDDING, Notice, NoticeKind
from ravesvc.bot.text import plain
from ravesvc.bot.vote_skip import Skip
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import lines
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PAUSED, Playback, PlayMode

_MAX_TITLE_CHARS = 60
# A line with a longer one could be split in the middle.
_MAX_LINK_CHARS = 200


def title(video: Video) -> str:
    """What to call a video: its title, or else its link."""
    return plain(video.title, _MAX_TITLE_CHARS) or plain(video.url, _MAX_TITLE_CHARS)


def clock(seconds: float) -> str:
    """A position or length as players show it, such as 3:05 or 1:02:03."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plays(playback: Playback, video: Video | None, server_now: float) -> str:
    """What plays or is paused, and where it is; `video` is what the bot knows of it, if anything."""
    position = clock(playback.position_at(server_now))
    if length := playback.duration or (video and video.seconds):
        position = _("{position} of {length}", position=position, length=clock(length))
    named = (title(video) if video else "") or _public_link(playback) or _("a video")
    if playback.status == PAUSED:
        return _("Paused: {title}, at {position}", title=named, position=position)
    return _("Playing: {title}, at {position}", title=named, position=position)


def _public_link(playback: Playback) -> str:
    """The provider's link: a browser can't open that of Rave."""
    link = playback.video_url
    return plain(link, _MAX_LINK_CHARS) if link.startswith("https://") and link != playback.url else ""


def hit(number: int, video: Video) -> str:
    """One of those that a search has found."""
    named = _("{number}. {title}", number=number, title=title(video))
    author = plain(video.author, _MAX_TITLE_CHARS)
    return _("{title}\nby {author}", title=named, author=author) if author else named


def notice_text(notice: Notice, name: str) -> str:
    """What the room should know about its queue; `name` is that of the entry's user."""
    video = title(notice.entry.video)
    match notice.kind:
        case NoticeKind.STARTED:
            return _("Now playing: {title}, asked for by {name}", title=video, name=name)
        case NoticeKind.GIVEN_UP:
            return _("Taken out of the queue: {title}. The reason: {why}", title=video, why=notice.why)
        case NoticeKind.UNREACHABLE:
            return _(
                "The next video can't be played yet: {title}. The reason: {why}. I go on trying",
                title=video,
                why=notice.why,
            )
        case NoticeKind.CHOICE_CLEARED:
            return _("The votes were cleared, also that for {title}", title=video)
        case NoticeKind.CLEARED:
            return _("The votes were cleared, so I vote again for {title}", title=video)
        case _:
            return waiting_text(notice)


def waiting_text(notice: Notice) -> str:
    """Why the queue waits until something changes in the room."""
    video = title(notice.entry.video)
    match notice.kind:
        case NoticeKind.CLEARED_TOO_OFTEN:
            return _("The votes for {title} are cleared each time. The queue waits for the next change", title=video)
        case NoticeKind.LEADER_ONLY:
            return _(
                "Only the leader chooses what plays here (play mode LEADER). {title} waits until I lead, or the mode "
                "is another",
                title=video,
            )
        case NoticeKind.FORBIDDEN:
            return _("I may not play {title}: {why}. The queue waits", title=video, why=notice.why)
        case _:
            return _(
                "I have voted for {title}, but it does not start. Vote for it too, or the queue waits", title=video
            )


def up_next(video: Video) -> str:
    """Which video is the next one."""
    return _("Next: {title}", title=title(video))


def voted(video: Video, former: QueueEntry | None) -> str:
    """Which video the bot has voted for past the queue, and which one has lost the vote by that."""
    answer = _("Voted for: {title}", title=title(video))
    if former is None:
        return answer
    return lines(answer, _("I have one vote, so I no longer vote for: {title}", title=title(former.video)))


def skip(done: Skip) -> str:
    """What has come of a skip."""
    video = title(done.entry.video) if done.entry else ""
    if done.over:
        return _("It is over already: {title}", title=video) if video else _("It is over already")
    if done.refusal is None:
        return _("Skipped: {title}", title=video) if video else _("Skipped")
    answer = _only_votes(done.refusal)
    return lines(answer, _("I voted for {title} to be next", title=title(done.next.video))) if done.next else answer


def _only_votes(why: RaveError) -> str:
    if not why.hint:
        return _("I can only vote to skip it, because {why}", why=why.message)
    return _("I can only vote to skip it, because {why}; {hint}", why=why.message, hint=why.hint)


def refusal(error: RaveError, mode: PlayMode) -> RaveError:
    """An error of Rave's, or that the play mode is its cause."""
    if mode is not PlayMode.LEADER or error.code not in FORBIDDING:
        return error
    text = _("only the leader chooses what plays here (play mode LEADER)")
    return RaveError(
        error.code, text, hint=_("the leader can make the bot the leader in the app"), **error.attributes
    )


def removed(answer: str, queue: Queue) -> str:
    """What was removed, and which video may play all the same, because the bot's vote for it stands."""
    if queue.removed is None or queue.waiting:
        return answer
    vote = _("Rave still has my vote for {title}. I will skip it if it starts", title=title(queue.removed.video))
    return lines(answer, vote)


def removed_has_started(video: Video, refusal: RaveError | None) -> str:
    """What has come of the skip of a video that was removed from the queue, and had the bot's vote."""
    if refusal is None:
        return _("Skipped: {title}. It was removed from the queue", title=title(video))
    return _(
        "Playing: {title}. It was removed from the queue, but Rave had my vote for it, and I can't end it: {why}",
        title=title(video),
        why=refusal.message,
    )


def nothing_plays() -> RaveError:
    """What is asked for needs a video."""
    return RaveError(Code.INVALID_ARGUMENT, _("nothing plays"))
