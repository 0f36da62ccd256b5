from __future__ import annotations

import dataclasses

import pytest
import yaml

from ravesvc.config import rave_yaml
from ravesvc.config.worker_options import ClientIdentity
from tests.unit.config.option_values import bad, good


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mesh_mode: some", "f.yaml:1: mesh_mode must be one of invited, public, friends, all"),
        ("\nlimit: 101", "f.yaml:2: limit must be a whole number from 1 to 100"),
        ("limit: 0", "f.yaml:1: limit must be a whole number from 1 to 100"),
        ("limit: [1]", "f.yaml:1: limit must be a whole number from 1 to 100"),
        ("limit: 1.5", "f.yaml:1: limit must be a whole number from 1 to 100"),
        ("max_process_restarts: 0", "f.yaml:1: max_process_restarts must be a whole number from 1 to 1000"),
        (
            "typing_delay: 2min",
            "f.yaml:1: typing_delay must be a time span such as 5s, 10min or 1h, from 0s to 60s",
        ),
        (
            "process_restart_delay: 50ms",
            "f.yaml:1: process_restart_delay must be a time span such as 5s, 10min or 1h, from 0.1s to 31622400s",
        ),
        ("debug: 1", "f.yaml:1: debug must be true or false"),
        (
            "\nproxy: socks5://bot:hush@proxy.lan:1080",
            "f.yaml:2: proxy must be an HTTP proxy that is reached in clear text: socks5 proxies are not supported",
        ),
        (
            "proxy: http://bot:hush@proxy.lan:x",
            "f.yaml:1: proxy must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
        ),
        ("proxy: [a]", "f.yaml:1: proxy must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"),
        ("no_proxy: {}", 'f.yaml:1: no_proxy must be a list of texts (write it as no_proxy: ["a", "b"])'),
        ("credentials_path: c.json", "f.yaml:1: credentials_path must be an absolute path"),
        ('credentials_path: "/a\\0b"', "f.yaml:1: credentials_path must be an absolute path"),
        ("tls:\n  ca_file: ca.pem", "f.yaml:2: tls.ca_file must be an absolute path"),
        (
            'client_identity:\n  user_agent: "a\\n"',
            "f.yaml:2: client_identity.user_agent must be a text on one line, without control characters",
        ),
        ("servers: {api: 'http://a.test'}", "f.yaml:1: servers.api must be a URL such as https://host/path"),
        (
            "allow_addresses: [rave.lan]",
            "f.yaml:1: allow_addresses must be a list of addresses and networks"
            " (write it as allow_addresses: [10.1.0.0/16])",
        ),
        (
            "connect_ports: [443, 65536]",
            "f.yaml:1: connect_ports must be a list of ports (write it as connect_ports: [443])",
        ),
        (
            "ignored_users: [1, ann]",
            "f.yaml:1: ignored_users must be a list of user ids (write it as ignored_users: [900000001])",
        ),
        (
            "command_prefix: [[x]]",
            'f.yaml:1: command_prefix must be a list of texts (write it as command_prefix: ["a", "b"])',
        ),
        (
            "command_prefix: ''",
            'f.yaml:1: command_prefix must be a list of texts (write it as command_prefix: ["a", "b"])',
        ),
        (
            'tls:\n\n  insecure_hosts: ["a\\n"]',
            'f.yaml:3: tls.insecure_hosts must be a list of texts (write it as insecure_hosts: ["a", "b"])',
        ),
        ("mesh_mod: all", "f.yaml:1: mesh_mod is not an option (did you mean mesh_mode?)"),
        (
            "tls: {tls: 1}",
            "f.yaml:1: tls.tls is not an option (tls belongs outside of tls: write it at the beginning of a line)",
        ),
        ("tls: {'': 1}", "f.yaml:1: tls.an empty key is not an option (known here: ca_file, insecure_hosts)"),
        ("health_check_interval: 60000", "f.yaml:1: health_check_interval is not an option (rave.yaml(5) lists all)"),
        ("servers: x", "f.yaml:1: servers must be a list of `key: value` lines"),
        ("- x", "f.yaml:1: the file must be a list of `key: value` lines"),
        ("[a]: b", "f.yaml:1: the file has a key that is not a word"),
        ("tls:\n  ? {a: b}\n  : c", "f.yaml:2: tls has a key that is not a word"),
        ("limit: 1\n\nlimit: 2", "f.yaml:3: limit stands here twice, in lines 1 and 3 (delete one of the two)"),
        (
            "tls: {ca_file: /a, ca_file: /b}",
            "f.yaml:1: tls.ca_file stands here twice, in line 1 (delete one of the two)",
        ),
        (
            "lang: en\ncommand_prefix: !",
            'f.yaml:2: command_prefix begins with ! and is not quoted (write it as command_prefix: "!")',
        ),
    ],
)
def test_a_problem_names_line_and_key_and_how_to_mend_it(text: str, problem: str) -> None:
    assert bad(text) == [problem]


@pytest.mark.parametrize("words", ["true false", "Yes No", "ON OFF"])
def test_words_for_true_and_false(words: str) -> None:
    true, false = words.split()
    assert good(f"debug: {true}").debug is True
    assert good(f"debug: {false}").debug is False


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.test",
        "https://",
        "https:///path",
        "https://[::1",
        "https://a.test:x",
        "https://a.test:0",
        "https://a.test:99999",
        "https://a.test?",
        "https://a.test/#",
        "https://:pw@a.test",
        "https://a.te st",
        "https://a.te\tst",
    ],
)
def test_what_is_no_base_url(url: str) -> None:
    assert bad(f"servers: {{api: {yaml.dump(url, default_style=chr(34)).strip()}}}") == [
        "f.yaml:1: servers.api must be a URL such as https://host/path"
    ]


IDENTITY = [field.name for field in dataclasses.fields(ClientIdentity)]
SECRET = "hush4711"


@pytest.mark.parametrize("key", IDENTITY)
@pytest.mark.parametrize(
    "value",
    [
        f"[{SECRET}]",
        f"{{{SECRET}: {SECRET}}}",
        f'"{SECRET}\\n"',
        f"*{SECRET}",
        f"&{SECRET} &{SECRET} x",
        f"!{SECRET}!x y",
        f"%{SECRET}",
        f"@{SECRET}",
        f"{SECRET}: x",
        f'"{SECRET}',
        f'"{SECRET}\\q"',
        f'"{SECRET}\\U7FFFFFFF"',
        f"{SECRET}\n    x: y",
        f"{SECRET}\n  {{}}: {SECRET}",
        f"{SECRET}\x07",
    ],
)
def test_the_identity_stays_out_of_messages(key: str, value: str) -> None:
    _, problems = rave_yaml.read(f"client_identity:\n  {key}: {value}\n", "f.yaml")
    assert problems
    for problem in problems:
        assert SECRET not in f"{problem} {problem!r} {problem.attributes}"


@pytest.mark.parametrize(
    "text",
    [
        f"client_identity: {SECRET}",
        f"client_identity:\n  request_hash_key:{SECRET}",
        f"client_identity: {{request_hash_key:{SECRET}, user_agent: x}}",
        f"client_identity: {{request_hash_key:{SECRET}: x, request_hash_key:{SECRET}: y}}",
    ],
)
def test_a_forgotten_space_does_not_betray_the_identity(text: str) -> None:
    problems = bad(text)
    assert problems
    assert SECRET not in "".join(problems)


MILLISECONDS = "if you mean milliseconds, as the Node.js bot has them"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "lang: en\nblocklist_duration: 3600000",
            "f.yaml:2: blocklist_duration: 3600000 means 3600000 seconds, that is 41 days "
            "(if you mean milliseconds, write 1h; if you mean seconds, write 3600000s)",
        ),
        (
            "discovery_interval: 60000",
            "f.yaml:1: discovery_interval: 60000 means 60000 seconds, that is 16 hours "
            "(if you mean milliseconds, write 1min; if you mean seconds, write 60000s)",
        ),
        (
            "process_restart_delay: 500",
            "f.yaml:1: process_restart_delay: 500 means 500 seconds, that is 8 minutes "
            "(if you mean milliseconds, write 500ms; if you mean seconds, write 500s)",
        ),
    ],
)
def test_a_number_that_may_be_milliseconds_is_allowed_with_a_warning(text: str, warning: str) -> None:
    assert good(text).warnings == (warning,)


@pytest.mark.parametrize("text", ["typing_delay: 1000", "leave_when_alone: 180000", "history_retention: 7776000000"])
def test_a_number_that_is_too_large_may_be_milliseconds(text: str) -> None:
    (problem,) = bad(text)
    written = {"typing_delay": "1s", "leave_when_alone": "3min", "history_retention": "90d"}[text.partition(":")[0]]
    assert problem.endswith(f"(write {written} {MILLISECONDS})")


@pytest.mark.parametrize(
    "text",
    [
        # A day, and ninety days.
        "blocklist_duration: 86400",
        "history_retention: 7776000",
        # As milliseconds it would be less than is allowed.
        "shutdown_timeout: 600",
        # A unit says what is meant.
        "blocklist_duration: 3600000s",
        "blocklist_duration: 3600000ms",
        "blocklist_duration: 41d",
    ],
)
def test_a_time_span_that_is_meant_has_no_warning(text: str) -> None:
    assert good(text).warnings == ()


def test_a_number_that_is_too_large_for_either_has_no_hint() -> None:
    (problem,) = bad("typing_delay: 1000000")
    assert problem.endswith("from 0s to 60s")


@pytest.mark.parametrize("value", ["5", "true", "german", "''", "[en]", "de-", '"en\\n"'])
def test_what_is_no_language(value: str) -> None:
    assert bad(f"lang: {value}") == ["f.yaml:1: lang must be the code of a language, such as en, de or pt-BR"]


@pytest.mark.parametrize("code", ["en", "fil", "de-AT", "pt_BR", "zh-Hant-TW"])
def test_languages(code: str) -> None:
    assert good(f"lang: {code}").lang == code


IN_TLS = "ca_file belongs in the section tls: indent it, below a line tls:"
AT_THE_TOP = "limit belongs outside of tls: write it at the beginning of a line"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tls:\nca_file: /a", f"f.yaml:2: ca_file is not an option ({IN_TLS})"),
        ("servers:\n  ca_file: /a", f"f.yaml:2: servers.ca_file is not an option ({IN_TLS})"),
        ("tls.ca_file: /a", f"f.yaml:1: tls.ca_file is not an option ({IN_TLS})"),
        ("ca_fil: /a", f"f.yaml:1: ca_fil is not an option (did you mean ca_file? {IN_TLS})"),
        ("tls:\n  limit: 5", f"f.yaml:2: tls.limit is not an option ({AT_THE_TOP})"),
        ("tls: {limt: 5}", f"f.yaml:1: tls.limt is not an option (did you mean limit? {AT_THE_TOP})"),
        (
            "tls:\n  tls:\n    ca_file: /a",
            "f.yaml:2: tls.tls is not an option (tls belongs outside of tls: write it at the beginning of a line)",
        ),
    ],
)
def test_a_key_at_the_wrong_level_is_told_where_it_belongs(text: str, problem: str) -> None:
    assert bad(text) == [problem]


def test_a_key_of_any_length_is_named_by_its_beginning() -> None:
    loaded, (mistake,) = rave_yaml.read("x" * 900 + ": 1", "f.yaml")
    assert loaded is None
    assert mistake.message == f"f.yaml:1: {'x' * 40} is not an option"
