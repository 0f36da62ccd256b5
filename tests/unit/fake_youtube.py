"""What YouTube answers, for the servers of tests."""

from __future__ import annotations

from typing import Any

from tests.unit.api_server import Reply

ID = "dQw4w9WgXcQ"
OTHER = "aaaaaaaaaaa"
KEY = "hush-key-0123456789"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + (320).to_bytes(4, "big") + (180).to_bytes(4, "big") + bytes(100)


def snippet(title: str, picture: str = "https://i.ytimg.com/vi/x/mqdefault.jpg", **more: Any) -> dict[str, Any]:
    return {
        "publishedAt": "2009-10-25T06:57:33Z",
        "channelId": "UC1",
        "title": title,
        "description": "d",
        "channelTitle": "Rick &amp; Co",
        "liveBroadcastContent": "none",
        "thumbnails": {"medium": {"url": picture, "width": 320, "height": 180}},
        **more,
    }


def hit(video_id: object = ID, title: str = "Never &amp; ever &#39;gonna&#39;", **more: Any) -> dict[str, Any]:
    return {"id": {"kind": "youtube#video", "videoId": video_id}, "snippet": snippet(title, **more)}


def entry(video_id: object = ID, title: str = "Never & ever", **more: Any) -> dict[str, Any]:
    return {
        "id": video_id,
        "snippet": snippet(title, channelTitle="Rick & Co", **more),
        "contentDetails": {"duration": "PT3M33S"},
        "statistics": {"viewCount": "1700000000"},
        "status": {"embeddable": True},
    }


def listed(*entries: object) -> Reply:
    return Reply(body={"items": list(entries)})


def refused(status: int, reason: str) -> Reply:
    errors = [{"domain": "youtube.quota", "reason": reason, "message": f"text of {reason} with {KEY}"}]
    return Reply(status, {"error": {"code": status, "message": "said at length", "errors": errors}})


def embedded(title: str = "Never", picture: str = "https://i.ytimg.com/vi/x/hqdefault.jpg") -> Reply:
    return Reply(body={"title": title, "author_name": "Rick", "thumbnail_url": picture, "html": "<iframe>"})
