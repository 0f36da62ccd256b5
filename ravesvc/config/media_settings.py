"""What rave.yaml says of videos, and what of it the helper is told (OpenFile= of its unit)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ravesvc import names
from ravesvc.common import json_fields, text_file
from ravesvc.common.video import YOUTUBE
from ravesvc.config.worker_settings import Proxy, Tls, read_proxy, read_tls
from ravesvc.errors import Code, RaveError

LINK = "link"
PROVIDERS = (YOUTUBE, LINK)

_MAX_KEY_BYTES = 4096
_KEY = re.compile(r"[A-Za-z0-9_.-]{10,200}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoOptions:
    """The section `videos` of rave.yaml.

    Attributes:
        providers: which to ask, in order; `youtube` is asked only when there is a key.
        youtube_key_path: the file with the key; no option, it goes with the place of rave.yaml.
        youtube_api: base URL of the Data API.
        youtube_oembed: URL of the oEmbed call, which needs no key.
        picture_hosts: hosts, with all below them, from which pictures are fetched; with `:PORT` if that is not 443.
        youtube_searches_per_day: how many the provider allows.
        searches_per_user, searches_per_room, searches_per_host: how many in an hour the rooms may have.
    """

    providers: tuple[str, ...] = PROVIDERS
    youtube_key_path: Path = field(default=Path(names.YOUTUBE_KEY_FILE), compare=False)
    youtube_api: str = "https://www.googleapis.com/youtube/v3"
    youtube_oembed: str = "https://www.youtube.com/oembed"
    picture_hosts: tuple[str, ...] = ("ytimg.com",)
    youtube_searches_per_day: int = 100
    searches_per_user: int = 10
    searches_per_room: int = 30
    searches_per_host: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaSettings:
    """What a `Library` needs, apart from the key. As `VideoOptions`; `key_path` is for people to read."""

    providers: tuple[str, ...]
    youtube_api: str
    youtube_oembed: str
    picture_hosts: tuple[str, ...]
    youtube_searches_per_day: int
    key_path: str
    tls: Tls
    proxy: Proxy | None = None
    debug: bool = False

    @classmethod
    def of(cls, options: VideoOptions, tls: Tls, proxy: Proxy | None, *, debug: bool) -> MediaSettings:
        """Those that rave.yaml asks for."""
        return cls(
            providers=options.providers,
            youtube_api=options.youtube_api,
            youtube_oembed=options.youtube_oembed,
            picture_hosts=options.picture_hosts,
            youtube_searches_per_day=options.youtube_searches_per_day,
            key_path=str(options.youtube_key_path),
            tls=tls,
            proxy=proxy,
            debug=debug,
        )

    def to_json(self) -> str:
        """The text of the helper's settings file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> MediaSettings:
        """Read what `to_json` wrote; raises `RaveError` (BadData)."""
        top = json_fields.parse_object(text, "the settings file")
        return cls(
            providers=_texts(top, "providers"),
            youtube_api=json_fields.get_str(top, "youtube_api"),
            youtube_oembed=json_fields.get_str(top, "youtube_oembed"),
            picture_hosts=_texts(top, "picture_hosts"),
            youtube_searches_per_day=json_fields.get_int(top, "youtube_searches_per_day"),
            key_path=json_fields.get_str(top, "key_path"),
            tls=read_tls(top),
            proxy=read_proxy(top),
            debug=json_fields.get_bool(top, "debug"),
        )


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


def _texts(source: json_fields.Object, key: str) -> tuple[str, ...]:
    return tuple(json_fields.get_str({key: entry}, key) for entry in json_fields.get_list(source, key))
