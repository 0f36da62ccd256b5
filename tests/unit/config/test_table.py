from __future__ import annotations

from dataclasses import dataclass

from ravesvc.config.declaration import SWITCH, TEXT, WHOLE_NUMBER, handed_over, option, section
from ravesvc.config.table import build, entries, for_workers, reloaded, sections


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    key: str = option(TEXT, default="", for_service=True)
    name: str = option(TEXT, default="anna", reload=True)
    made: str = handed_over(TEXT, default="by us")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    part: Inner = section(Inner, "the_part")
    count: int = option(WHOLE_NUMBER, default=3, chapter="chat", most=9, reload=True)
    loud: bool = option(SWITCH, default=False, chapter="log")
    note: str = "no option"


def test_the_table_has_the_options_of_all_sections_by_their_name_in_the_file() -> None:
    assert [entry.name for entry in entries(Outer)] == ["the_part.key", "the_part.name", "count", "loud"]
    assert sections(Outer) == ["the_part"]


def test_an_entry_knows_its_value_and_its_default() -> None:
    settings = Outer(part=Inner(name="bob"), count=5)
    assert [entry.value(settings) for entry in entries(Outer)] == ["", "bob", 5, False]
    assert [entry.default for entry in entries(Outer)] == ["", "anna", 3, False]


def test_an_object_is_built_of_values_for_entries() -> None:
    values = {"the_part.key": "k", "the_part.name": "n", "count": 7, "loud": True}
    built = build(Outer, lambda entry: values[entry.name])
    assert built == Outer(part=Inner(key="k", name="n"), count=7, loud=True)


def test_workers_get_a_section_without_what_is_for_the_service() -> None:
    assert for_workers(Inner(key="hush", name="bob", made="elsewhere")) == Inner(name="bob", made="elsewhere")


def test_a_reload_takes_over_what_is_marked_and_keeps_everything_else() -> None:
    before = Outer(part=Inner(key="old", name="old", made="old"), count=1, loud=False, note="old")
    after = Outer(part=Inner(key="new", name="new", made="new"), count=2, loud=True, note="new")
    kept = Outer(part=Inner(key="old", name="new", made="old"), count=2, loud=False, note="old")
    assert reloaded(before, after) == kept
