"""Options and identity in the source of the Node.js bot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravesvc.ctl.operations import nodejs_options, nodejs_source
from tests.unit.old_bot import HASH_KEY, write_source


def read(directory: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    sources = nodejs_source.read(directory)
    environment = nodejs_source.environment(directory)
    options = nodejs_options.read(sources, environment)
    identity, more = nodejs_source.identity(sources, environment)
    plain = [{key: found.text for key, found in each.items()} for each in (options.values, identity)]
    return plain[0], plain[1], [str(problem) for problem in options.problems + more]


def options(tmp_path: Path, text: str) -> dict[str, str]:
    write_source(tmp_path, "bot.ts", text)
    return read(tmp_path)[0]


def test_a_whole_bot(tmp_path: Path) -> None:
    write_source(tmp_path)
    found, identity, problems = read(tmp_path)
    assert problems == []
    assert found == {
        "command_prefix": '["!", "bot "]',
        "debug": "false",
        "max_processes": "0",
        "discovery_interval": "90s",
        # Milliseconds there.
        "blocklist_duration": "7200s",
        "mesh_mode": '"all"',
    }
    assert identity == {
        "request_hash_key": f'"{HASH_KEY}"',
        "mojo_api_key": '"from-the-environment"',
        "mojo_redirect_url": '"https://rave.example.test/mojoauth"',
        "parse_application_id": '"an-application"',
        "user_agent": '"Rave/2149 (8.2.9) (Android 9; SM-G960F; samsung star; en)"',
        "client_version": '"8.2.9"',
        "app_build": '"2149"',
    }


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("shutdownTimeout: 10,", "shutdown_timeout", "10s"),
        ("processRestartDelay: 2.5\n", "process_restart_delay", "2.5s"),
        ("'statusPollInterval': 60 }", "status_poll_interval", "60s"),
        ("blocklistDuration: 60 * 60 * 1_000,", "blocklist_duration", "3600s"),
        ("blocklistDuration: 90_500,", "blocklist_duration", "90.5s"),
        ("blocklistDuration: 5e6,", "blocklist_duration", "5000s"),
        ("maxProcesses: '10',", "max_processes", "10"),
        ("shutdownTimeout: -1,", "shutdown_timeout", "-1s"),
        ("maxProcesses: 2.5,", "max_processes", "2.5"),
        ("maxProcesses: 25,", "max_processes", "25"),
        ("maxProcessRestarts = 7;", "max_process_restarts", "7"),
        ("commandPrefix: '?',", "command_prefix", '["?"]'),
        ("commandPrefix: ['?', \"it's\"] as const,", "command_prefix", '["?", "it\'s"]'),
        ("commandPrefix: [\n  '?',\n  '!',\n],", "command_prefix", '["?", "!"]'),
        ("debug: true,", "debug", "true"),
        ("meshMode: `friends`,", "mesh_mode", '"friends"'),
    ],
)
def test_values_are_written_as_they_are_written_here(tmp_path: Path, text: str, name: str, value: str) -> None:
    assert options(tmp_path, f"const config = {{ {text}") == {name: value}


@pytest.mark.parametrize(
    "text",
    [
        "interface Config { commandPrefix: string | string[]; debug: boolean; maxProcesses?: number; }",
        "discoveryInterval: 60 * SECOND,",
        "discoveryInterval: '60' + x,",
        "debug: true && false,",
        "// discoveryInterval: 60,",
        "/* debug: true,\n debug: false, */",
        "const text = 'see // discoveryInterval: 60'; ",
        "myDiscoveryInterval: 60,",
        "discoveryInterval: 'often',",
        "maxProcesses: [1],",
    ],
)
def test_what_only_running_it_would_tell_is_left(tmp_path: Path, text: str) -> None:
    assert options(tmp_path, text) == {}


def test_the_program_outweighs_the_defaults_of_the_library(tmp_path: Path) -> None:
    write_source(tmp_path, "src/process/manager.ts", "discoveryInterval: 60,\ndebug: false,")
    write_source(tmp_path, "examples/bot.ts", "discoveryInterval: 30,")
    write_source(tmp_path, "dist/examples/bot.js", "discoveryInterval: 15,")
    assert read(tmp_path)[0] == {"discovery_interval": "30s", "debug": "false"}
    write_source(tmp_path, "package.json", '{"scripts": {"start": "node dist/examples/bot.js"}}')
    assert read(tmp_path)[0]["discovery_interval"] == "15s"


def test_several_values_are_told_and_none_is_taken(tmp_path: Path) -> None:
    write_source(tmp_path, "one.ts", "\ndebug: true,\nheaders['X-Api-Key'] = 'hush-one';")
    write_source(tmp_path, "two.ts", "debug: false,\nheaders['X-Api-Key'] = 'hush-two';")
    found, identity, problems = read(tmp_path)
    assert (found, identity) == ({}, {})
    assert problems == [
        "debug is not taken over: the old bot has several values (one.ts:2, two.ts:1) "
        "(set the right one in rave.yaml)",
        "client_identity.mojo_api_key is not taken over: the old bot has several values (one.ts:3, two.ts:2) "
        "(set the right one in rave.yaml)",
    ]


def test_json_and_our_own_names_are_read_as_well(tmp_path: Path) -> None:
    write_source(
        tmp_path, "config/bot.json", '{"commandPrefix": "!", "discoveryInterval": 45, "mojoApiKey": "k-1234"}'
    )
    write_source(tmp_path, "config/credentials.json", '{"debug": true, "mojoApiKey": "another"}')
    write_source(tmp_path, "src/api.js", f"const REQUEST_HASH_KEY = '{HASH_KEY}';")
    write_source(tmp_path, ".env", "PARSE_APPLICATION_ID=an-id\nMOJO_REDIRECT_URL=http://insecure.test/mojoauth\n")
    found, identity, problems = read(tmp_path)
    assert problems == []
    assert found == {"command_prefix": '["!"]', "discovery_interval": "45s"}
    assert identity == {
        "request_hash_key": f'"{HASH_KEY}"',
        "mojo_api_key": '"k-1234"',
        "parse_application_id": '"an-id"',
    }


@pytest.mark.parametrize("value", ["'no hex digits at all'", "'abc'", "unknownName", "this.#key"])
def test_what_does_not_look_like_a_key_is_none(tmp_path: Path, value: str) -> None:
    write_source(tmp_path, "api.ts", f"createHmac('sha256', {value}).update(x)")
    assert read(tmp_path)[1] == {}


def test_libraries_links_and_what_is_no_text_are_passed_over(tmp_path: Path) -> None:
    write_source(tmp_path, "node_modules/x/index.js", "debug: true,")
    (tmp_path / "binary.js").write_bytes(b"\xff\x00debug: true,")
    (tmp_path / "link.js").symlink_to(tmp_path / "node_modules/x/index.js")
    os.mkfifo(tmp_path / "fifo.js")
    (tmp_path / "big.js").write_text("debug: false,\n" + " " * 600_000)
    (tmp_path / "package.json").write_text("[" * 100_000)
    assert read(tmp_path) == ({"debug": "true"}, {}, [])
    assert nodejs_source.read(tmp_path / "none") == []


@pytest.mark.slow
def test_a_source_that_goes_on_and_on_is_read_in_time(tmp_path: Path) -> None:
    write_source(tmp_path, "blob.js", "commandPrefix: [ 'a'" + " " * 200_000 + "'" * 100_000)
    assert read(tmp_path)[0] == {}


DEFAULTS = """
    export interface Config { blocklistDuration?: number; discoveryInterval: number; prefix: string | string[] }
    this.config = { blocklistDuration: 3600000, discoveryInterval: 60, debug: false, ...config };
    this.debug = config.debug ?? false;
    """


@pytest.mark.parametrize(
    "value",
    [
        *("blocklistDuration: 2 * HOUR,", "blocklistDuration: BLOCK_FOR,", "blocklistDuration: hours(2),"),
        *(
            "blocklistDuration: process.env.BLOCK_FOR,",
            "blocklistDuration: Number(process.env.BLOCK_FOR ?? 7200000),",
        ),
        *(
            "blocklistDuration: 3600000 / 2,",
            "blocklistDuration: [],",
            "blocklistDuration: settings.blocklistDuration,",
        ),
        *("blocklistDuration,", "blocklistDuration: config.blocklistDuration,", "blocklistDuration: 'an hour',"),
        *("blocklistDuration: `${x}`,", "blocklistDuration:\n  60 * minutes\n,"),
    ],
)
def test_a_default_does_not_pass_for_a_value_that_cannot_be_read(tmp_path: Path, value: str) -> None:
    write_source(tmp_path, "src/manager.ts", DEFAULTS)
    write_source(tmp_path, "bot.ts", f"new Manager({{\n  token,\n  {value}\n  meshMode: 'all',\n}});")
    found, _, problems = read(tmp_path)
    assert found == {"discovery_interval": "60s", "debug": "false", "mesh_mode": '"all"'}
    assert problems == [
        "blocklist_duration is not taken over: its value is not written plainly (bot.ts:3) "
        "(set blocklist_duration in rave.yaml)"
    ]


def test_a_default_does_not_pass_for_what_a_program_beside_it_loads(tmp_path: Path) -> None:
    write_source(tmp_path, "src/manager.ts", DEFAULTS)
    text = "const config: Config = await load('x');\nrun({ discoveryInterval: config.discoveryInterval });"
    write_source(tmp_path, "src/bot.ts", text)
    found, _, problems = read(tmp_path)
    assert found == {"blocklist_duration": "3600s", "debug": "false"}
    assert "(src/bot.ts:2)" in problems[0]
    # What it imports is a source of its own.
    write_source(tmp_path, "src/bot.ts", text.replace("await load('x')", "require('../settings.json')"))
    write_source(tmp_path, "settings.json", '{"discoveryInterval": 45}')
    assert read(tmp_path)[0]["discovery_interval"] == "45s"


def test_constants_of_the_same_file_are_read(tmp_path: Path) -> None:
    text = """
        const DISCOVERY = 120;
        const HOUR: number = 60 * 60 * 1000;
        const TWICE = 1;
        { let TWICE = 2; }
        run({ discoveryInterval: DISCOVERY, blocklistDuration: 2 * HOUR, maxProcesses: TWICE,
              shutdownTimeout: OTHER });
        """
    write_source(tmp_path, "src/bot.ts", text)
    write_source(tmp_path, "src/other.ts", "const OTHER = 5;")
    found, _, problems = read(tmp_path)
    assert found == {"discovery_interval": "120s", "blocklist_duration": "7200s"}
    assert [problem.partition(" is")[0] for problem in problems] == ["max_processes", "shutdown_timeout"]
    assert ["(src/bot.ts:6)" in problem for problem in problems] == [True, False]
    assert "(src/bot.ts:7)" in problems[1]


@pytest.mark.parametrize(
    "text",
    [
        "console.log(`discoveryInterval: ${x}`);",
        "const { discoveryInterval, debug } = config;",
        "function run({ discoveryInterval, debug }: Config) {}",
        "log('discoveryInterval = ' + y); if (discoveryInterval === x) {}",
        "const debug = require('debug')('rave'); logger.debug = (text: string) => {};",
        "class A { discoveryInterval: number; meshMode: MeshMode | null; constructor(private debug: boolean) {} }",
        "this.discoveryInterval = config.discoveryInterval;",
        "f(a, discoveryInterval, b);",
    ],
)
def test_what_gives_no_option_a_value_is_not_named(tmp_path: Path, text: str) -> None:
    write_source(tmp_path, "bot.ts", text)
    assert read(tmp_path) == ({}, {}, [])


@pytest.mark.parametrize(
    "text",
    [
        "discoveryInterval: process.env.DISCOVERY_INTERVAL,",
        "discoveryInterval: Number(process.env.DISCOVERY_INTERVAL),",
        "discoveryInterval: parseInt(process.env['DISCOVERY_INTERVAL'] || '60', 10),",
        "discoveryInterval: +process.env.DISCOVERY_INTERVAL!,",
        "discoveryInterval: Number(process.env.DISCOVERY_INTERVAL) || 60,",
    ],
)
def test_the_environment_file_is_read_where_the_source_asks_for_it(tmp_path: Path, text: str) -> None:
    write_source(tmp_path, "bot.ts", f"run({{ {text} debug: process.env.DEBUG === 'true', meshMode: 'all' }});")
    write_source(tmp_path, ".env", "DISCOVERY_INTERVAL=90 # seconds\nDEBUG='true'\nMESH_MODE=friends\n")
    found, _, problems = read(tmp_path)
    assert found == {"discovery_interval": "90s", "debug": "true"}
    assert problems == [
        "mesh_mode is not taken over: its value is not written plainly (.env: MESH_MODE) (set mesh_mode in rave.yaml)"
    ]


@pytest.mark.parametrize("key", ["discoveryInterval", "statusPollInterval", "processRestartDelay", "shutdownTimeout"])
def test_a_time_in_the_wrong_unit_is_asked_about(tmp_path: Path, key: str) -> None:
    write_source(tmp_path, "bot.ts", f"{key}: 90000, blocklistDuration: 3600,")
    found, _, problems = read(tmp_path)
    assert found == {}
    assert ["was it meant as milliseconds? (bot.ts:1)" in problem for problem in problems] == [True, False]
    assert "was it meant as seconds? (bot.ts:1)" in problems[1]
    assert "90000" not in "".join(problems)


def test_many_places_are_counted(tmp_path: Path) -> None:
    write_source(tmp_path, "bot.ts", "debug: x(),\n" * 30)
    (problem,) = read(tmp_path)[2]
    assert " and 20 more)" in problem


@pytest.mark.slow
@pytest.mark.parametrize("text", ["const a$", "A" * 3, "debug: A", "discoveryInterval,{", "x=", "const X: a = 5;\n"])
def test_long_sources_are_read_in_time(tmp_path: Path, text: str) -> None:
    write_source(tmp_path, "blob.ts", "debug: " + text * (400_000 // len(text)))
    read(tmp_path)
