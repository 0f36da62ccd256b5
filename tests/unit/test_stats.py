"""The figures of `make stats`, on small made-up trees."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import stats
from import_graph import circles, graph, imports, package_graph
from likeness import common_runs, shape
from naming import classes_of_one_name, constants, lacks_unit
from source import Source, from_files, of_checkout, of_revision


def tree(**modules: str) -> Source:
    """A tree of modules by their dotted name below ravesvc, with `__` for the dot."""
    files = {f"ravesvc/{name.replace('__', '/')}.py": text for name, text in modules.items()}
    return from_files({"ravesvc/__init__.py": "", **files})


def sets(*groups: str) -> list[frozenset[str]]:
    return [frozenset(f"ravesvc.{name}" for name in group.split()) for group in groups]


HIDDEN = {
    "plain": "import ravesvc.bot.a",
    "type checkers": "if TYPE_CHECKING:\n    from ravesvc.bot.a import X",
    "function": "def f():\n    from ravesvc.bot import a",
    "by name": "def f():\n    return importlib.import_module('ravesvc.bot.a')",
}


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_a_circle_is_found_however_it_is_imported(text: str) -> None:
    found = imports(tree(bot__a="from ravesvc.api.b import Y", api__b=text, api__c="import ravesvc.bot.a").modules)
    assert circles(graph(found)) == sets("bot.a api.b")
    assert circles(package_graph(found)) == sets("bot api")


def test_packages_may_go_in_a_circle_though_no_module_does() -> None:
    found = imports(tree(bot__a="import ravesvc.api.b", api__b="", api__c="import ravesvc.bot.a").modules)
    assert circles(graph(found)) == []
    assert circles(package_graph(found)) == sets("bot api")


def test_circles_that_touch_are_one_and_others_are_apart() -> None:
    edges = {"a": {"b"}, "b": {"a", "c"}, "c": {"b"}, "x": {"y", "a"}, "y": {"x"}, "z": {"x"}}
    assert circles(edges) == [frozenset("abc"), frozenset("xy")]


def test_a_class_counts_when_another_module_has_the_name() -> None:
    found = classes_of_one_name(tree(a="class X: ...\nclass Y: ...\nclass Y: ...", b="\nclass X: ...").modules)
    assert found == {"X": ["ravesvc/a.py:1", "ravesvc/b.py:2"]}


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("TIMEOUT = 5", True),
        ("_HELD = 60.0", True),
        ("_AGAIN: Final = 3 * DAY_S", True),
        ("MAX_REPLY = 64 << 10", True),
        ("MAX_REPLY = 4096", True),
        ("_MOST_ERRORS = 16", True),
        ("TIMEOUT_S = 5.0", False),
        ("MAX_REPLY_BYTES = 64 << 10", False),
        ("_BYTES_PER_TOKEN = 2048", False),
        ("MAX_CONNECTIONS = 4096", False),
        ("FOUND = 404", False),
        ("FLAG = True", False),
        ("RATE = Rate(1.0, 5)", False),
    ],
)
def test_a_time_or_size_is_told_from_its_value_or_its_name(line: str, *, lacks: bool) -> None:
    ((name, value, _),) = constants(tree(a=line).modules[1])
    assert lacks_unit(name, value) is lacks


def test_like_lines_differ_in_names_texts_and_numbers_alone() -> None:
    assert shape('if self.count > 3: raise Error(f"{x}")') == shape("if it.y > 40: raise Fault('no')")
    assert shape("if a: return b") != shape("if a: raise b")


def test_runs_are_as_long_as_they_can_be() -> None:
    assert common_runs("xabcy", "abczabc", 2) == [(3, 1, 0), (3, 1, 4)]
    assert common_runs("ab", "ba", 2) == []


def test_short_files_are_counted_without_those_that_python_wants() -> None:
    figure = stats.short_files(tree(short="a = 1\n" * 49, long="a = 1\n" * 50))
    assert (figure.value, figure.found) == ("1 of 2", ["ravesvc/short.py: 49"])


def test_runners_are_compared_by_their_code() -> None:
    text = '"""Say so."""\nimport os\n# Why.\na = 1\n\nb = 2\nc = 3\n'
    source = tree(single__app=text, core__plan=text.replace("c", "d"), api__client=text)
    assert stats.equal_lines(source).value == "2 lines"
    assert stats.like_lines(source).value == "3 lines"


def test_hidden_actors_are_found_in_names_texts_and_pages() -> None:
    source = from_files(
        {
            "ravesvc/a.py": '"""Does it.\n\nFor whoever asks."""\n_NOBODY = 1  # Someone else.\nlog.info("anyone")\n',
            "README.md": "Somebody may.\n",
            "CHANGELOG.md": "Nobody reads it.\n",
        }
    )
    assert stats.actors_in_source(source).value == "4"
    assert stats.actors_for_readers(source).found == [
        "ravesvc/a.py:3: whoever",
        "ravesvc/a.py:5: anyone",
        "README.md:1: Somebody",
    ]


def test_an_option_counts_where_it_is_declared_not_where_it_is_read() -> None:
    text = "leave_when_alone: float\nWorker(leave_when_alone=x.leave_when_alone)\nuse(settings.leave_when_alone)\n"
    assert stats.option_places(tree(settings=text)).found == ["ravesvc/settings.py:1", "ravesvc/settings.py:2"]


def test_the_table_has_a_column_for_each_tree_and_the_list_what_was_counted() -> None:
    one = stats.measured(tree(a="class X: ...", b="class X: ..."))
    other = stats.measured(tree(a="_LONGEST = 3", single__app="a = 1"))
    lines = list(stats.table(["old", "new"], [one, other]))
    assert lines[0].split() == ["old", "new"]
    rows = {line[:54].strip(): line[54:].split() for line in lines[1:]}
    assert rows["class names defined in more than one module"] == ["1", "0"]
    assert rows["constants named LONGEST"] == ["0", "1"]
    assert "    X: ravesvc/a.py:1, ravesvc/b.py:1" in list(stats.listing(one))


def test_a_tree_is_read_from_the_disk_and_from_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "ravesvc").mkdir()
    (tmp_path / "ravesvc/a.py").write_text("A = 1\n")
    (tmp_path / "ravesvc/link.py").symlink_to("a.py")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    (tmp_path / "ravesvc/a.py").write_text("A = 2\n")
    (tmp_path / "ravesvc/b.py").write_text("B = 1\n")
    assert dict(of_revision(tmp_path, "HEAD").files) == {"ravesvc/a.py": "A = 1\n"}
    assert dict(of_checkout(tmp_path).files) == {"ravesvc/a.py": "A = 2\n", "ravesvc/b.py": "B = 1\n"}
    with pytest.raises(subprocess.CalledProcessError):
        of_revision(tmp_path, "nowhere")
