"""The files of a tree, from the disk or from git, and the modules of ravesvc among them."""

from __future__ import annotations

import ast
import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "ravesvc"


class Module(NamedTuple):
    """One module: where it is, its dotted name, its text, and what the text means."""

    path: str
    name: str
    text: str
    tree: ast.Module


class Source(NamedTuple):
    """All text files of a tree by their path in it, and the modules among them."""

    files: Mapping[str, str]
    modules: tuple[Module, ...]


def from_files(files: Mapping[str, str]) -> Source:
    """Find and parse the modules."""
    return Source(files, tuple(_modules(files)))


def of_checkout(root: Path) -> Source:
    """The files that git knows in a working tree or would add to it, as they are on the disk."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    paths = [path for path in listed if (root / path).is_file() and not (root / path).is_symlink()]
    return from_files({path: (root / path).read_text(errors="replace") for path in paths})


def of_revision(root: Path, revision: str) -> Source:
    """The files of a revision. Raises CalledProcessError if git does not know it."""
    with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", revision))) as archive:
        return from_files(dict(_regular_files(archive)))


def _regular_files(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in archive:
        # None for directories; a symbolic link would count its target twice.
        if member.isfile() and (file := archive.extractfile(member)):
            yield member.name, file.read().decode(errors="replace")


def _modules(files: Mapping[str, str]) -> Iterator[Module]:
    for path, text in sorted(files.items()):
        if path.startswith(f"{PACKAGE}/") and path.endswith(".py"):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            yield Module(path, name, text, ast.parse(text, path))


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE).stdout
