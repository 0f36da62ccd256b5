"""Break one promise after another, and see that a test finds it: `python -m tests.mutations --help`, docs/tests.md.

Each mutation is made in a copy of the tree: the checkout stays as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
TREES = 2
# A mutation may have a test wait for ever.
TIMEOUT_S = 600.0
PYTEST = ("-W", "error", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--quick")
YEAR = ("-m", "tests.simulation", "--seed", "1", "--runs", "5", "--hours", "12")
# What a run prints of the first thing that it has found. Other failures, such as a module that can't be imported,
# find nothing.
FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (tests/unit/.+?)(?: - .*)?$", re.MULTILINE)
BROKEN_PROMISE = re.compile(r"^A promise is broken: (.+)", re.MULTILINE)


def main() -> int:
    """Run what the command line asks for; the exit status is 1 if a mutation was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description="Test the tests of ravesvc.")
    parser.add_argument("word", nargs="?", default="", help="only mutations with it in their promise or file")
    word = parser.parse_args().word.lower()
    chosen = [each for each in MUTATIONS if word in f"{each.file} {each.promise}".lower()]
    if not chosen:
        parser.error(f"no mutation has the word {word}")
    try:
        for each in chosen:
            each.applied((ROOT / "ravesvc" / each.file).read_text())
    except ValueError as e:
        parser.error(str(e))
    with TemporaryDirectory(prefix="mutations-") as directory:
        trees = [Path(directory, str(number)) for number in range(TREES)]
        for tree in trees:
            copy_checkout(tree)
        return test_all(chosen, trees)


def copy_checkout(tree: Path) -> None:
    """Copy the files that git has or would take, with what was changed in them."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def test_all(mutations: Sequence[Mutation], trees: Iterable[Path]) -> int:
    """Print for each mutation what has found it; 1 if one was not found."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def test(mutation: Mutation) -> list[str]:
        tree = free.get()
        try:
            return finders(tree, mutation)
        finally:
            free.put(tree)

    missed = 0
    with ThreadPoolExecutor(free.qsize()) as pool:
        for mutation, found in zip(mutations, pool.map(test, mutations), strict=True):
            missed += not found
            print(f"{mutation.part}: {mutation.promise}\n    {', '.join(found) or 'NOT FOUND'}", flush=True)
    print(f"{len(mutations) - missed} of {len(mutations)} mutations were found")
    return 1 if missed else 0


@contextmanager
def mutated(tree: Path, mutation: Mutation) -> Iterator[None]:
    """Have a mutation in a tree for the time of a block."""
    file = tree / "ravesvc" / mutation.file
    before = file.read_text()
    try:
        write(file, mutation.applied(before))
        yield
    finally:
        write(file, before)


def write(file: Path, text: str) -> None:
    """Replace a module, and drop what was compiled of it: by time and size that may seem up to date."""
    file.write_text(text)
    Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)


def finders(tree: Path, mutation: Mutation) -> list[str]:
    """What finds the mutation in a tree: a quick test, the simulated year, or both."""
    with mutated(tree, mutation):
        test = run(tree, (*PYTEST, f"tests/unit/{mutation.tests}"), FAILED_TEST)
        promise = run(tree, YEAR, BROKEN_PROMISE) if mutation.in_year else ""
    found = []
    # What fails without the mutation as well has found nothing.
    if test and not run(tree, (*PYTEST, test), FAILED_TEST):
        found.append(test)
    if promise and not run(tree, YEAR, BROKEN_PROMISE):
        found.append(f"the simulated year ({promise})")
    return found


def run(tree: Path, words: Sequence[str], finding: re.Pattern[str]) -> str:
    """What Python with these words has found in a tree within `TIMEOUT_S`; empty for nothing."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return ""
    found = finding.search(done.stdout)
    return found[1] if found and done.returncode == 1 else ""


sys.exit(main())
