"""Videos as the JSON in which they travel, on the bus and from the helper. Each bot imports this: keep it small."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ravesvc.common import json_fields
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError

_MAX_VIDEOS = 10


def videos_text(videos: Sequence[Video]) -> str:
    """Videos for `read_videos`."""
    return json.dumps({"videos": [video.to_object() for video in videos]})


def read_videos(text: str) -> list[Video]:
    """Read what `videos_text` wrote; raises `RaveError` (BadData)."""
    return videos_in(json_fields.parse_object(text, "the answer"))


def videos_in(source: json_fields.Object) -> list[Video]:
    """At most ten videos under the key `videos`; raises `RaveError` (BadData)."""
    videos = json_fields.get_list(source, "videos")
    if len(videos) > _MAX_VIDEOS:
        raise RaveError(Code.BAD_DATA, "there are too many videos")
    return [Video.from_object(json_fields.as_object(video, "a video")) for video in videos]
