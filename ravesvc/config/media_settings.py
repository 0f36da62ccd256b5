"""What rave.yaml says of videos, and what of it the helper is told (OpenFile= of its unit)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ravesvc import names
from ravesvc.common import json_fields, text_file
from ravesvc.common.video import YOUTUBE
from ravesvc.config.declaration import (
    CHOICES,
    HOSTS,
    SWITCH,
    TEXT,
    URL,
    WHOLE_NUMBER,
    from_object,
    handed_over,
    option,
    section,
)
from ravesvc.config.worker_options import PROXY, Proxy, Tls
from ravesvc.errors import Code, RaveError

LINK = "link"
PROVIDERS = (YOUTUBE, LINK)

_MAX_KEY_BYTES = 4096
_KEY = re.compile(r"[A-Za-z0-9_.-]{10,200}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HelperOptions:
    """The options of the section `videos` that the helper gets."""

    providers: tuple[str, ...] = option(CHOICES, default=PROVIDERS, words=PROVIDERS)
    """Whom to ask about a video, in this order; YouTube only if there is a key in `/etc/rave/youtube.key`.

    `youtube` is the YouTube Data API v3, which needs a key. `link` needs none: it knows title, author and picture of
    a link, but not how long the video is, and it can't search.

    To get a key, make a project in the Google Cloud console, enable the YouTube Data API v3 in it, and create an API
    key. Put the key alone into the file, let only root read it (`chmod 0600`), and run `systemctl restart
    rave-orchestrator`. When YouTube refuses the key or its quota is used up, links are still looked up.
    """
    youtube_api: str = option(URL, default="https://www.googleapis.com/youtube/v3")
    """The base URL of the YouTube Data API, for a gateway of your own or for rave-simulator(8)."""
    youtube_oembed: str = option(URL, default="https://www.youtube.com/oembed")
    """The URL of YouTube's oEmbed call, which looks up links without a key."""
    picture_hosts: tuple[str, ...] = option(HOSTS, default=("ytimg.com",))
    """The hosts, with all below them, from which pictures are fetched; `HOST:PORT` if the port is not 443."""
    youtube_searches_per_day: int = option(WHOLE_NUMBER, default=100, least=1)
    """How many searches YouTube allows the key in a day, which begins at midnight Pacific time.

    A search that was made before is answered from a cache in `/var/cache/rave-media`, for at most 30 days.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoOptions(HelperOptions):
    """The section `videos` of rave.yaml.

    `youtube_key_path` is the file with the key; no option, it goes with the place of rave.yaml.
    """

    youtube_key_path: Path = field(default=Path(names.YOUTUBE_KEY_FILE), compare=False)
    searches_per_user: int = option(WHOLE_NUMBER, default=10, least=1)
    """How many searches in an hour one user of a room may have.

    Of look-ups of links, and of pictures, six times as many are allowed; so it is with the next two options.
    """
    searches_per_room: int = option(WHOLE_NUMBER, default=30, least=1)
    """How many searches in an hour one room may have."""
    searches_per_host: int = option(WHOLE_NUMBER, default=100, least=1)
    """How many searches in an hour all rooms together may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaSettings(HelperOptions):
    """What a `Library` needs, apart from the key; `key_path` is for people to read."""

    key_path: str = handed_over(TEXT, default=names.YOUTUBE_KEY_FILE)
    tls: Tls = section(Tls, "tls")
    proxy: Proxy | None = handed_over(PROXY, default=None)
    debug: bool = handed_over(SWITCH, default=False)

    @classmethod
    def of(cls, options: VideoOptions, tls: Tls, proxy: Proxy | None, *, debug: bool) -> MediaSettings:
        """Those that rave.yaml asks for."""
        told = {each.name: getattr(options, each.name) for each in fields(HelperOptions)}
        return cls(**told, key_path=str(options.youtube_key_path), tls=tls, proxy=proxy, debug=debug)

    def to_json(self) -> str:
        """The text of the helper's settings file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> MediaSettings:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        return from_object(cls, json_fields.parse_object(text, "the settings file"))


def parse_key(text: str) -> str:
    """The key in the text of a key file; raises `RaveError` (BadFile), which quotes nothing, for what is none."""
    key = text.strip()
    if not _KEY.fullmatch(key):
        hint = "it must hold the key alone, one line of letters and digits"
        raise RaveError(Code.BAD_FILE, "there is no key of the YouTube Data API in it", hint=hint)
    return key


def read_key(path: Path) -> str:
    """The key in a file; empty if there is no file. Raises `RaveError` (BadFile) for one that can't be used."""
    try:
        return parse_key(text_file.decode(text_file.read(path, _MAX_KEY_BYTES)))
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{path} can't be read: {e.strerror}", file=str(path)) from e
    except RaveError as e:
        raise RaveError(Code.BAD_FILE, f"{path}: {e.message}", hint=e.hint, file=str(path)) from None
