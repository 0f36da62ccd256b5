from __future__ import annotations

import pytest

from tests.unit.config.option_values import bad

TAB = "a tab (indent with spaces)"
TAB_INSIDE = "a tab (write a space in its place)"
OPEN_QUOTE = "a quote is not closed (close it on the same line)"
MORE = (
    "a closing quote stands before the end of the value"
    " (close each quote, and put a value that has quotes in it between quotes of the other kind)"
)
NO_COLON = "a colon is missing, or the space after it (write it as key: value)"
TWO_COLONS = "a second colon (write one key: value on a line, and quote a value with a colon in it)"
INDENTED_MORE = "this line is indented more than those around it (indent all of a section equally)"
INDENTED = "this line is not indented as those around it (indent all of a section equally)"
BRACKET = 'a bracket [ is not closed, or a comma is missing (write it as key: ["?", "!"])'
BRACE = "a bracket { is not closed, or a comma is missing (write it as key: {key: value, key: value})"
KEPT = (
    "a text begins with a character that has a meaning in YAML (quote a text that begins with one of ? ! * & % @ ` -)"
)


@pytest.mark.parametrize(
    ("text", "line", "mistake"),
    [
        ("\tlang: en", 1, TAB),
        ("lang: en\n\tdebug: true", 2, TAB),
        ("tls:\n\tca_file: /a", 2, TAB),
        ("tls:\n  ca_file: /a\n  \tinsecure_hosts: []", 3, TAB),
        ("tls: {\n\tca_file: /a}", 2, TAB),
        ("command_prefix:\n\t- a", 2, TAB),
        ("limit:\t5", 1, TAB_INSIDE),
        ("lang: en\nlimit: 5\t# five", 2, TAB_INSIDE),
        ('lang: "en"\t', 1, TAB_INSIDE),
        # Open until the end of the file, or until the quote that was to open the next text.
        ('lang: "en\ndebug: true', 1, OPEN_QUOTE),
        ("debug: true\nlang: 'en\n", 2, OPEN_QUOTE),
        ('lang: "en\ndebug: true\ncommand_prefix: "?"\nlimit: 5', 1, OPEN_QUOTE),
        ('lang: "en\ndebug: true\ncommand_prefix: "@"\nlimit: 5', 1, OPEN_QUOTE),
        ('tls:\n  ca_file: "/a\n  insecure_hosts: ["a"]\nlimit: 3', 2, OPEN_QUOTE),
        ("lang: 'en\n# that's a comment\nlimit: 3", 1, OPEN_QUOTE),
        ('lang: "en\n---\n', 1, OPEN_QUOTE),
        ('command_prefix: ["a", "b]\nlimit: 3', 1, OPEN_QUOTE),
        ('lang: "de"\ncommand_prefix: "?\nlimit: 3', 2, OPEN_QUOTE),
        ("lang: 'it's'", 1, MORE),
        ('lang: "en" de', 1, MORE),
        ('limit: 3\ncommand_prefix: ["a, "b"]', 2, MORE),
        ("lang: en\ndebug true\n", 2, NO_COLON),
        ("limit:5\nlang: en", 1, NO_COLON),
        ("limit = 5\nlang: en", 1, NO_COLON),
        ("a: b: c", 1, TWO_COLONS),
        ("lang: en\n\n  x: 1", 3, INDENTED_MORE),
        ("tls:\n  ca_file: /a\n    insecure_hosts: []", 3, INDENTED_MORE),
        ("tls:\n  ca_file: /a\n insecure_hosts: []", 3, INDENTED),
        ("lang: en\n- x", 2, INDENTED),
        ("lang: en # english\n  x", 2, "this is no key with a value (write it as key: value)"),
        ('lang: de\ncommand_prefix: ["?", "!"\nlimit: 3', 2, BRACKET),
        ("command_prefix: [?, !]", 1, BRACKET),
        ("tls: {ca_file: /a\nlimit: 3", 1, BRACE),
        ("debug: @x", 1, KEPT),
        ("lang: en\ncommand_prefix: ?", 2, KEPT),
        ("command_prefix: *", 1, KEPT),
        ("lang: - x", 1, KEPT),
        (
            'proxy: "C:\\q"',
            1,
            r"an escape that YAML does not have (write \\ for a backslash, or use single quotes)",
        ),
        ("limit: 1\n\n\x00", 3, "a control character (delete it)"),
    ],
)
def test_a_mistake_is_named_where_it_is_with_what_to_do(text: str, line: int, mistake: str) -> None:
    assert bad(text) == [f"f.yaml:{line}: this is not YAML: {mistake}"]
