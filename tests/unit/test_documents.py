"""What the pages for contributors name exists, and the glossary and the decisions keep their form."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = next(directory for directory in Path(__file__).parents if (directory / "pyproject.toml").exists())
DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
GLOSSARY = DOCS / "glossary.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
]
# The README's shell is for the root directory of a machine: it names other files, and tests execute it.
WITH_PATHS = [page for page in PAGES if page.name != "README.md" or page.parent != ROOT]

PATH = re.compile(r"[\w.@<>*-]+(/[\w.@<>*-]+)*/?")
DIRECTORIES = {".ci", ".github", "config", "debian", "docs", "packaging", "ravesvc", "tests", "units"}
DIRECTORIES |= {path.name for path in (ROOT / "ravesvc").iterdir() if path.is_dir()}

TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))
RECIPES = {line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("\t")}
HEADINGS = ["Context", "Decision", "What it costs", "Alternatives"]


def identity(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path) -> Iterator[str]:
    """Each code span, and each line of a code block, of a page."""
    text = page.read_text()
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        yield from block.splitlines()
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from re.findall(r"^ {4,}(.+)", text, re.M)
    yield from re.findall(r"`([^`]+)`", re.sub(r"^ {4,}.+", "", text, flags=re.M))


def paths(page: Path) -> set[str]:
    """What of the code of a page is a path in this tree: a Python file, or a path below one of our directories."""
    words = {word.partition("::")[0] for line in code(page) for word in line.split()}
    found = {word for word in words if PATH.fullmatch(word)}
    return {word for word in found if word.endswith(".py") or ("/" in word and word.split("/")[0] in DIRECTORIES)}


def exists(path: str, page: Path) -> bool:
    pattern = re.sub("<[^<>]*>", "*", path)
    bases = (ROOT, ROOT / "ravesvc", ROOT / "tests/integration", ROOT / "tests/unit", page.parent)
    return any(any(base.glob(pattern)) for base in bases)


def test_paths_are_found_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`ravesvc/gone.py` and `names.py`, `gone.py`, `/etc/rave/x.py`, `rave.yaml`, `make no-such`.\n\n"
        "    pytest tests/unit/test_gone.py::test_x\n\n```\nmake check\n```\n"
    )
    found = paths(page)
    assert found == {"ravesvc/gone.py", "names.py", "gone.py", "tests/unit/test_gone.py"}
    assert {path for path in found if exists(path, page)} == {"names.py"}
    assert set(targets(page)) == {"no-such", "check"}


@pytest.mark.parametrize("page", WITH_PATHS, ids=identity)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert not {path for path in paths(page) if not exists(path, page)}


def targets(page: Path) -> Iterator[str]:
    """The make targets that a page tells to run."""
    for line in code(page):
        if found := re.match(r"make +([a-z][a-z0-9-]*)", line):
            yield found[1]


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    assert set(targets(page)) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)[^):\s]*\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def entries(section: str) -> list[tuple[str, str]]:
    """The terms of one section of the glossary, each with its explanation on one line."""
    text = GLOSSARY.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\* \*\*(.+?)\*\*: (.+(?:\n  .+)*)", text, re.M)
    assert text.count("\n* ") == len(found)
    return [(term, " ".join(explanation.split())) for term, explanation in found]


@pytest.mark.parametrize("section", ["Things", "Verbs"])
def test_the_glossary_is_in_alphabetical_order(section: str) -> None:
    terms = [term for term, _ in entries(section)]
    assert len(terms) > 10
    assert terms == sorted(terms, key=str.casefold)


def test_each_term_of_the_glossary_has_one_sentence() -> None:
    both = entries("Things") + entries("Verbs")
    assert len({term for term, _ in both}) == len(both)
    for term, explanation in both:
        ends = re.findall(r"[.!?](?= |$)", explanation)
        assert (ends, explanation[-1], explanation[0].isupper()) == (["."], ".", True), term


def test_the_glossary_says_that_a_mesh_is_a_room() -> None:
    assert "**A mesh is a room.**" in GLOSSARY.read_text()


def test_decisions_are_numbered_have_one_form_and_stand_in_the_list() -> None:
    files = sorted(DECISIONS.glob("[0-9]*.md"))
    index = (DECISIONS / "README.md").read_text()
    for number, file in enumerate(files, 1):
        text = file.read_text()
        assert re.fullmatch(rf"{number:04}-[a-z0-9-]+\.md", file.name)
        assert text.startswith(f"# {number:04}: ")
        assert re.findall(r"^## (.+)", text, re.M) == HEADINGS, file.name
        assert f"[{number:04}]({file.name})" in index
    assert len(files) == index.count("\n| [")


def test_the_directories_are_listed_from_top_to_bottom() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    level = {name: number for number, layer in enumerate(layers) for name in re.split(r" *[|:] *", layer)}
    table = [
        line.split("|")[1] for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| `")
    ]
    listed = [name for cell in table for name in re.findall(r"`ravesvc/(\w+)`", cell)]
    assert sorted(listed) == sorted(file.parent.name for file in (ROOT / "ravesvc").glob("*/__init__.py"))
    assert listed == sorted(listed, key=level.__getitem__)


def test_hooks_before_a_commit_are_steps_of_make() -> None:
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    assert {hook["language"] for hook in hooks} == {"system"}
    commands = {hook["entry"] for hook in hooks}
    assert len(commands) == len(hooks)
    assert commands <= RECIPES


def test_the_workflow_runs_what_any_machine_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_editors_break_lines_where_the_linter_does() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert f"max_line_length = {lint['line-length']}\n" in (ROOT / ".editorconfig").read_text()


def test_types_and_documents_are_shipped() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ravesvc"]
    assert "py.typed" in data
    assert (ROOT / "ravesvc/py.typed").exists()
    assert "docs" in (ROOT / "debian/rave-orchestrator.docs").read_text().split()
