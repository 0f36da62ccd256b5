"""A video provider: search, look-up, oEmbed and thumbnails, in the shapes of YouTube's, over a made-up catalogue."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.account import YOUTUBE_KEY
from ravesvc.simulator.catalogue import CATALOGUE, WATCH_URL, CatalogueEntry
from ravesvc.simulator.http_endpoint import Handler, HttpEndpoint, RestCall
from ravesvc.simulator.payloads import Content, Payload
from ravesvc.simulator.pictures import jpeg
from ravesvc.simulator.request_checks import PublicChecks
from ravesvc.simulator.world import World

_QUOTA_REASON = "quotaExceeded"
_MAX_IDS = 50
_SIZES = {"default": (120, 90), "mqdefault": (320, 180), "hqdefault": (480, 360)}
_THUMBNAILS = {"default": "default", "medium": "mqdefault", "high": "hqdefault"}
_DETAILS = ("snippet", "contentDetails", "statistics", "status")
_LINK = re.compile(r"/(?:shorts/|live/|embed/)?([A-Za-z0-9_-]{11})")


class SimulatedProvider:
    """The routes and what they answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._endpoint = HttpEndpoint(world, error_payload)

    def routes(self) -> list[web.RouteDef]:
        """The routes; what is named first can be made to fail (`fault_options.FAULT_TARGETS`)."""
        calls: list[tuple[str, str, Handler]] = [
            ("provider_search", "/youtube/v3/search", self._search),
            ("provider_videos", "/youtube/v3/videos", self._videos),
            ("provider_oembed", "/oembed", self._oembed),
            ("provider_picture", "/vi/{video}/{size}.jpg", self._picture),
        ]
        return [self._endpoint.route(target, "GET", path, PublicChecks(), handler) for target, path, handler in calls]

    # The calls.

    def _search(self, call: RestCall) -> Payload:
        self._count_call("search")
        self._check_key(call)
        _require(call, "part", ("snippet",))
        if call.query.get("type") != "video":
            raise RaveError(Code.BAD_DATA, "type is not video")
        number = json_fields.opt_int(call.query, "maxResults")
        if number is not None and not 0 <= number <= 50:
            raise RaveError(Code.BAD_DATA, "maxResults is not 0 to 50")
        if self._world.provider_calls["search"] > self._world.options.provider_quota:
            raise RaveError(Code.FORBIDDEN, _QUOTA_REASON)
        found = _matches(json_fields.get_str(call.query, "q"))
        if call.query.get("videoEmbeddable") == "true":
            found = [entry for entry in found if entry.embeddable]
        items = [self._search_item(entry) for entry in found[: 5 if number is None else number]]
        return {"kind": "youtube#searchListResponse", "pageInfo": {"totalResults": len(found)}, "items": items}

    def _videos(self, call: RestCall) -> Payload:
        self._count_call("videos")
        self._check_key(call)
        parts, ids = _require(call, "part", _DETAILS), json_fields.get_str(call.query, "id").split(",")
        if len(ids) > _MAX_IDS:
            raise RaveError(Code.BAD_DATA, f"id holds more than {_MAX_IDS}")
        found = [CATALOGUE[video] for video in ids if video in CATALOGUE]
        items = [{"kind": "youtube#video", "id": e.id} | self._parts(e, parts) for e in found]
        return {"kind": "youtube#videoListResponse", "pageInfo": {"totalResults": len(items)}, "items": items}

    def _oembed(self, call: RestCall) -> Payload:
        self._count_call("oembed")
        if call.query.get("format") != "json":
            raise RaveError(Code.BAD_DATA, "format is not json")
        entry = _find_by_link(json_fields.get_str(call.query, "url"))
        if not entry.embeddable:
            raise RaveError(Code.FORBIDDEN, "Forbidden")
        width, height = _SIZES["hqdefault"]
        return {
            "title": entry.title,
            "author_name": entry.author,
            "author_url": "https://www.youtube.com/@simulator",
            "type": "video",
            "version": "1.0",
            "provider_name": "YouTube",
            "provider_url": "https://www.youtube.com/",
            "thumbnail_url": self._thumbnail(entry, "hqdefault"),
            "thumbnail_width": width,
            "thumbnail_height": height,
            "html": f'<iframe src="https://www.youtube.com/embed/{entry.id}"></iframe>',
        }

    def _picture(self, call: RestCall) -> Payload:
        self._count_call("picture")
        size = _SIZES.get(call.path["size"])
        if call.path["video"] not in CATALOGUE or size is None:
            raise RaveError(Code.NOT_FOUND, "no such picture")
        return Content("image/jpeg", jpeg(call.path["video"], *size))

    # What the calls have in common.

    def _count_call(self, call: str) -> None:
        self._world.provider_calls[call] += 1

    def _check_key(self, call: RestCall) -> None:
        if call.query.get("key") != YOUTUBE_KEY:
            raise RaveError(Code.CONFIG, "API key not valid. Please pass a valid API key.")

    def _search_item(self, entry: CatalogueEntry) -> dict[str, Any]:
        """A video in a search, whose texts alone are escaped as in HTML."""
        snippet = self._snippet(entry)
        snippet |= {key: _escaped(snippet[key]) for key in ("title", "description", "channelTitle")}
        identity = {"kind": "youtube#video", "videoId": entry.id}
        return {"kind": "youtube#searchResult", "id": identity, "snippet": snippet}

    def _parts(self, entry: CatalogueEntry, wanted: list[str]) -> dict[str, Any]:
        rating = {"ytRating": "ytAgeRestricted"} if entry.restricted else {}
        parts: dict[str, Any] = {
            "snippet": self._snippet(entry),
            "contentDetails": {"duration": entry.duration, "definition": "hd", "contentRating": rating},
            "statistics": {} if entry.views is None else {"viewCount": str(entry.views)},
            "status": {"privacyStatus": "public", "embeddable": entry.embeddable},
        }
        return {name: parts[name] for name in wanted}

    def _snippet(self, entry: CatalogueEntry) -> dict[str, Any]:
        return {
            "publishedAt": "2026-01-01T00:00:00Z",
            "channelId": "UCsimulator",
            "title": entry.title,
            "description": f"A made-up video by {entry.author}.",
            "channelTitle": entry.author,
            "liveBroadcastContent": "live" if entry.seconds is None else "none",
            "thumbnails": {
                name: {"url": self._thumbnail(entry, size), "width": _SIZES[size][0], "height": _SIZES[size][1]}
                for name, size in _THUMBNAILS.items()
            },
        }

    def _thumbnail(self, entry: CatalogueEntry, size: str) -> str:
        return f"https://{self._world.server}/vi/{entry.id}/{size}.jpg"


def error_payload(code: int, message: str) -> dict[str, Any]:
    """The payload of an error, with the reason that clients read."""
    usual = {400: "badRequest", 403: _QUOTA_REASON, 404: "notFound", 429: "rateLimitExceeded"}
    reason = {"message": message, "domain": "youtube.quota", "reason": usual.get(code, "backendError")}
    return {"error": {"code": code, "message": message, "errors": [reason]}}


def _matches(words: str) -> list[CatalogueEntry]:
    """The videos with at least one of the words in title or author, those with most words first."""
    wanted = [word.casefold() for word in words.split()]
    scores = {e.id: sum(word in f"{e.title} {e.author}".casefold() for word in wanted) for e in CATALOGUE.values()}
    return sorted((e for e in CATALOGUE.values() if scores[e.id]), key=lambda entry: -scores[entry.id])


def _require(call: RestCall, key: str, known: tuple[str, ...]) -> list[str]:
    """The parts that a call asks for."""
    parts = json_fields.get_str(call.query, key).split(",")
    if not set(parts) <= set(known):
        raise RaveError(Code.BAD_DATA, f"{key} is not of: {', '.join(known)}")
    return parts


def _escaped(text: str) -> str:
    return html.escape(text).replace("&#x27;", "&#39;")


def _find_by_link(url: str) -> CatalogueEntry:
    """The video that a link leads to; raises `RaveError` (BadData, NotFound)."""
    parts = urlsplit(url)
    found = _LINK.fullmatch(parts.path)
    video = parse_qs(parts.query).get("v", [""])[0] if parts.path == "/watch" else found[1] if found else ""
    if parts.scheme != "https" or not video:
        raise RaveError(Code.BAD_DATA, f"url is no link to a video, such as {WATCH_URL}sim-lantern")
    entry = CATALOGUE.get(video)
    if entry is None:
        raise RaveError(Code.NOT_FOUND, "Not Found")
    return entry
