from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError

Getter = Callable[[json_fields.Object, str], Any]

GETTERS: dict[Getter, type | tuple[type, ...]] = {
    json_fields.get_str: str,
    json_fields.get_int: int,
    json_fields.get_number: (int, float),
    json_fields.get_bool: bool,
    json_fields.get_object: dict,
    json_fields.get_list: list,
}
OPTIONAL: dict[Getter, Getter] = {
    json_fields.opt_str: json_fields.get_str,
    json_fields.opt_int: json_fields.get_int,
    json_fields.opt_bool: json_fields.get_bool,
    json_fields.opt_object: json_fields.get_object,
    json_fields.opt_list: json_fields.get_list,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def outcome(getter: Getter, value: object) -> Any:
    """What a getter returns or raises for the value of a key."""
    try:
        return getter({"key": value}, "key")
    except RaveError as e:
        return e


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(JSON)
def test_a_getter_gives_its_type_or_bad_data(value: object) -> None:
    for getter, kind in GETTERS.items():
        got = outcome(getter, value)
        if isinstance(got, RaveError):
            assert got.code is Code.BAD_DATA
            assert got.attributes == {"key": "key"}
        else:
            assert isinstance(got, kind)
            assert isinstance(got, bool) == (getter is json_fields.get_bool)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(JSON)
def test_an_optional_getter_differs_by_none_alone(value: object) -> None:
    for optional, strict in OPTIONAL.items():
        assert optional({}, "key") is None
        wanted = None if value is None else outcome(strict, value)
        assert str(outcome(optional, value)) == str(wanted)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_parse_object_gives_an_object_or_bad_data(text: str | bytes) -> None:
    with contextlib.suppress(RaveError):
        assert isinstance(json_fields.parse_object(text, "it"), dict)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "Expecting value"),
        (b"{", 1, "Expecting property name enclosed in double quotes"),
        ("{" + "'secret'}", 1, "Expecting property name enclosed in double quotes"),
        ('{\n"a": 1,\n"b" secret}', 3, "Expecting ':' delimiter"),
        ('{"a": "secret', 1, "Unterminated string starting at"),
        ('{"a":\n"secret\\secret"}', 2, "Invalid \\escape"),
        ('{"a":\n"secret\tsecret"}', 2, "Invalid control character at"),
        ('{"a": 1} secret', 1, "Extra data"),
    ],
)
def test_what_is_not_json_is_named_with_its_line_but_not_quoted(text: str | bytes, line: int, words: str) -> None:
    with pytest.raises(RaveError) as e:
        json_fields.parse_object(text, "the file")
    assert e.value.code is Code.BAD_DATA
    assert e.value.message.startswith(f"the file is not valid JSON (line {line}: {words}")
    assert e.value.attributes == {"line": line}
    assert "secret" not in str(e.value)


@pytest.mark.parametrize("text", ["[" * 100_000, b"\xff", f'{{"a": {"9" * 5000}}}'])
def test_what_is_not_even_close_to_json_is_named_and_has_no_line(text: str | bytes) -> None:
    with pytest.raises(RaveError, match=r"^the file is not valid JSON$") as e:
        json_fields.parse_object(text, "the file")
    assert e.value.code is Code.BAD_DATA
    assert e.value.attributes == {}


SECRETS = st.text(alphabet="äöüß§€", min_size=1)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.lists(SECRETS | st.sampled_from([*'{}[]:,"\\\n\t01', "null", '{"a": "', "\\u12", "\\x"])).map("".join))
def test_no_text_is_quoted_whatever_is_wrong_with_it(text: str) -> None:
    said = ""
    try:
        json_fields.parse_object(text, "it")
    except RaveError as e:
        said = str(e)
    assert not set(said) & set("äöüß§€")


def test_json_that_is_no_object_is_refused() -> None:
    with pytest.raises(RaveError, match=r"^the file must be an object, but is a list$"):
        json_fields.parse_object("[]", "the file")
    assert json_fields.parse_object(b'{"a": [1]}', "the file") == {"a": [1]}


@pytest.mark.parametrize(
    ("getter", "words"),
    [
        (json_fields.get_str, "a text"),
        (json_fields.get_int, "an integer"),
        (json_fields.get_number, "a number"),
        (json_fields.get_bool, "true or false"),
        (json_fields.get_object, "an object"),
        (json_fields.get_list, "a list"),
    ],
)
def test_an_error_names_key_and_type(getter: Getter, words: str) -> None:
    with pytest.raises(RaveError, match=f"^n must be {words}, but is missing$"):
        getter({}, "n")


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), ("7", 7), ("-7", -7), (0, 0), ("00", 0), (2**63 - 1, 2**63 - 1), (str(1 - 2**63), 1 - 2**63)],
)
def test_what_counts_as_an_integer(value: object, number: int) -> None:
    assert json_fields.as_int(value) == number
    assert json_fields.get_int({"n": value}, "n") == number


@pytest.mark.parametrize(
    "value",
    [True, None, 1.0, "", "-", "--1", "+1", " 1", "1.0", "1_0", "٣", "²", "9" * 20, "1" * 5000, 2**63, -(2**63), [1]],
)
def test_what_does_not(value: object) -> None:
    assert json_fields.as_int(value) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1"])
def test_a_number_is_finite_and_no_text(value: object) -> None:
    with pytest.raises(RaveError, match="n must be a number"):
        json_fields.get_number({"n": value}, "n")


def test_values_come_back_as_they_are() -> None:
    assert json_fields.get_number({"n": 1.5}, "n") == 1.5
    assert json_fields.get_bool({"b": False}, "b") is False
    assert json_fields.opt_bool({"b": False}, "b") is False
    assert json_fields.get_str({"s": ""}, "s") == ""
    assert json_fields.opt_int({"n": "0"}, "n") == 0
    assert json_fields.opt_list({"l": []}, "l") == []
    assert json_fields.opt_object({"o": {}}, "o") == {}


def read_in_a_moment(text: str | bytes) -> json_fields.Object:
    begun = time.thread_time()
    try:
        return json_fields.parse_object(text, "it")
    finally:
        # On a quiet machine it is half of that at most.
        assert time.thread_time() - begun < 0.1


# With e-308 it is half way between two numbers that Python knows.
HALF_WAY = "22250738585072021241887014792022203290724052827943"


@pytest.mark.parametrize(
    "number",
    [
        *("7" * 4300, "-" + "7" * 640, "7" * 101, "7" * 31),
        *(f"{HALF_WAY[0]}.{HALF_WAY[1:]}e-308", f"{HALF_WAY[:25]}.{HALF_WAY[25:]}e-308", f"{HALF_WAY}e-308"),
        *(f"-{HALF_WAY[:29]}.{HALF_WAY[29:]}", f"0.{HALF_WAY}E+9", "1e" + "0" * 31),
    ],
)
def test_long_numbers_hold_nobody_up(number: str) -> None:
    """6 MB of the longest integers that Python takes took 0.2 s; 75 000 with a point or exponent 0.3 to 0.5 s."""
    text = f'{{"n":[{",".join([number] * min(6_000_000 // len(number), json_fields.MAX_VALUES))}]}}'
    for each in text, text.encode():
        with pytest.raises(RaveError, match=r"^it is not valid JSON$"):
            read_in_a_moment(each)


@pytest.mark.parametrize(
    "number", ["7" * 30, f"0.{HALF_WAY[:28]}", f"{HALF_WAY[:14]}.{HALF_WAY[14:24]}e-321", "-1.2345678901234567e-308"]
)
def test_numbers_are_read_that_are_just_short_enough(number: str) -> None:
    text = f'{{"n":[{",".join([number] * 20_000)}]}}'
    assert json_fields.get_list(read_in_a_moment(text), "n") == [json.loads(number)] * 20_000
    with_digits = f'{{"n":[{number}{" " * 70_000}], "text": "{"7" * 31}"}}'
    assert json_fields.get_list(read_in_a_moment(with_digits), "n") == [json.loads(number)]


def test_digits_in_a_string_do_not_matter() -> None:
    """A user writes them in a room with many others."""
    digits = "7" * 5000
    found = json_fields.parse_object(f'{{"text": "{digits}", "more": [{"1234567890123," * 8000}0]}}', "it")
    assert (found["text"], found["more"][-2:]) == (digits, [1234567890123, 0])


@pytest.mark.process
def test_who_imports_us_keeps_their_own_limit_of_digits() -> None:
    """A bot's author runs tests, and works with large numbers in them."""
    program = (
        "import sys; before = sys.get_int_max_str_digits(); import ravesvc.common.json_fields, ravesvc.testing;"
        "from ravesvc import BotManager; assert sys.get_int_max_str_digits() == before"
    )
    subprocess.run([sys.executable, "-I", "-c", program], check=True)


@pytest.mark.parametrize("text", ['\ufeff{"a": 1}\r\n', b'\xef\xbb\xbf{"a": 1}\r\n'])
def test_a_byte_order_mark_does_not_matter(text: str | bytes) -> None:
    assert json_fields.parse_object(text, "it") == {"a": 1}
