"""Set the version and open the changelogs for a release: `make release VERSION=0.2.0`. See docs/release.md.

It edits files of the working directory, and leaves packages, commit and tag to make.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

VERSION_FILE = Path("ravesvc/version.py")
CHANGELOG = Path("CHANGELOG.md")
DEBIAN_CHANGELOG = Path("debian/changelog")

_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_VERSION_LINE = re.compile(r'^__version__ = "(.*)"$', re.M)
_UNRELEASED = "## [Unreleased]\n"


class ReleaseError(Exception):
    """Why there can be no such release; the message is for people."""


def with_version(source: str, version: str) -> str:
    """The module that has the version, with a new one. Raises ReleaseError if that is not a later one."""
    found = _VERSION_LINE.search(source)
    if found is None:
        raise ReleaseError(f"{VERSION_FILE} has no line with __version__")
    if _numbers(version) <= _numbers(found[1]):
        raise ReleaseError(f"{version} is not later than {found[1]}, the version of this tree")
    return _VERSION_LINE.sub(f'__version__ = "{version}"', source)


def with_release(changelog: str, version: str, day: str) -> str:
    """CHANGELOG.md with what was unreleased under the version. Raises ReleaseError if that is nothing."""
    head, heading, rest = changelog.partition(_UNRELEASED)
    if not heading:
        raise ReleaseError(f"{CHANGELOG} has no line {_UNRELEASED.strip()!r}")
    if not re.search(r"^- ", rest.split("\n## ")[0], re.M):
        raise ReleaseError(f"{CHANGELOG} lists no change under {_UNRELEASED.strip()!r}")
    return f"{head}{_UNRELEASED}\n## [{version}] - {day}\n{rest}"


def with_entry(changelog: str, version: str, date: str) -> str:
    """debian/changelog with one more entry, by the maintainer of the one before; `date` is one of RFC 5322."""
    maintainer = re.search(r"^ -- (.+>)  ", changelog, re.M)
    if maintainer is None:
        raise ReleaseError(f"{DEBIAN_CHANGELOG} has no entry to take the maintainer from")
    entry = f"ravesvc ({version}) unstable; urgency=medium\n\n  * Release {version}: see CHANGELOG.md.\n"
    return f"{entry}\n -- {maintainer[1]}  {date}\n\n{changelog}"


def _numbers(version: str) -> list[int]:
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version such as 0.2.0")
    return [int(number) for number in version.split(".")]


def main() -> int:
    """Edit the three files, all or none."""
    parser = argparse.ArgumentParser(description="Set the version and the changelogs for a release.")
    parser.add_argument("version", help="such as 0.2.0")
    version = parser.parse_args().version
    now = datetime.now(UTC)
    try:
        edited = {
            VERSION_FILE: with_version(VERSION_FILE.read_text(), version),
            CHANGELOG: with_release(CHANGELOG.read_text(), version, now.date().isoformat()),
            DEBIAN_CHANGELOG: with_entry(DEBIAN_CHANGELOG.read_text(), version, format_datetime(now)),
        }
    except (OSError, ReleaseError) as e:
        sys.stderr.write(f"release: {e}\n")
        return 1
    for path, text in edited.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
