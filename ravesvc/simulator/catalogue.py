"""The videos that the simulated provider has. All of them are made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WATCH_URL = "https://www.youtube.com/watch?v="


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One video. `seconds` is None for a live video, `views` if the provider does not show the number."""

    id: str
    title: str
    author: str
    seconds: int | None
    views: int | None = 1000
    restricted: bool = False
    embeddable: bool = True

    @property
    def duration(self) -> str:
        """As the provider writes it: without parts that are zero, and with days."""
        if self.seconds is None:
            return "P0D"
        days, rest = divmod(self.seconds, 86_400)
        hours, rest = divmod(rest, 3600)
        minutes, seconds = divmod(rest, 60)
        parts = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
        return f"P{f'{days}D' if days else ''}{f'T{parts}' if parts else ''}"

    def metadata(self, thumbnail: str) -> dict[str, Any]:
        """The JSON object with which a client of Rave registers the video."""
        hours, rest = divmod(self.seconds or 0, 3600)
        minutes, seconds = divmod(rest, 60)
        return {
            "providerId": self.id,
            "title": self.title,
            "author": self.author,
            "description": None,
            "duration": f"PT{hours}H{minutes}M{seconds}S",
            "isLive": self.seconds is None,
            "maturity": "18+" if self.restricted else "G",
            "thumbnail": thumbnail,
            "thumbnails": {"high": thumbnail},
            "url": WATCH_URL + self.id,
            "viewCount": self.views or 0,
        }


_ENTRIES = (
    CatalogueEntry(id="sim-lantern", title="The Lantern Song", author="Paper Boats", seconds=212, views=1_234_567),
    # Characters that HTML escapes, which the provider does in searches alone.
    CatalogueEntry(id="sim-harbour", title="Harbour Lights & Fog", author="Paper Boats", seconds=187),
    CatalogueEntry(id="sim-teapots", title='"Teapots" (Official Video)', author="The Saucers", seconds=241),
    CatalogueEntry(id="sim-rooster", title="Don't Wake the Rooster <3", author="Small Animals", seconds=154),
    CatalogueEntry(
        id="sim-kittens", title="Kittens and the Vacuum Cleaner", author="Small Animals", seconds=64, views=None
    ),
    CatalogueEntry(id="sim-volcano", title="How a Volcano Works", author="Slow Science", seconds=3723),
    CatalogueEntry(id="sim-compass", title="A Day with a Compass", author="Slow Science", seconds=93_600),
    CatalogueEntry(id="sim-balloon", title="A Red Balloon (short clip)", author="Clips", seconds=8),
    CatalogueEntry(id="sim-seaside", title="The Seaside (short clip)", author="Clips", seconds=12),
    CatalogueEntry(id="sim-unicode", title="Zoë im Café ☕ 夜", author="Ünïcode", seconds=100),
    CatalogueEntry(id="sim-glacier", title="Glacier Live", author="Slow Science", seconds=None),
    CatalogueEntry(
        id="sim-orchard", title="The Orchard at Night", author="Paper Boats", seconds=301, restricted=True
    ),
    CatalogueEntry(
        id="sim-penguin", title="Penguins on Parade", author="Small Animals", seconds=95, embeddable=False
    ),
)
CATALOGUE: Mapping[str, CatalogueEntry] = {entry.id: entry for entry in _ENTRIES}


def next_entry(video_id: str) -> CatalogueEntry:
    """The entry that follows a video in the catalogue, among those that have an end and that all users may watch."""
    fit = [e for e in _ENTRIES if e.seconds is not None and e.embeddable and not e.restricted]
    places = {entry.id: place for place, entry in enumerate(fit)}
    return fit[(places.get(video_id, -1) + 1) % len(fit)]
