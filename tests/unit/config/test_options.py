from __future__ import annotations

import dataclasses

import pytest

from ravesvc import names
from ravesvc.api.models import MeshMode
from ravesvc.config import options
from ravesvc.config.database import Database
from ravesvc.config.media_settings import MediaSettings
from ravesvc.config.options import TABLE, Config
from ravesvc.config.table import Entry, entries
from ravesvc.config.worker_options import ClientIdentity, WorkerOptions
from ravesvc.config.worker_settings import Edition, MeshSettings, digest
from ravesvc.version import __version__
from tests.unit.config.option_values import good, sample

FOR_WORKERS = {each.name for each in entries(WorkerOptions) if not each.option.for_service}


@pytest.mark.parametrize("entry", [each for each in TABLE if each.field.compare], ids=lambda entry: entry.name)
def test_a_change_is_named(entry: Entry) -> None:
    assert options.changes(Config(), good(sample(entry)[0])) == [entry.name]


@pytest.mark.parametrize("entry", [each for each in TABLE if each.name in FOR_WORKERS], ids=lambda entry: entry.name)
def test_what_is_for_workers_reaches_them_and_outdates_those_that_run(entry: Entry) -> None:
    text, value = sample(entry)
    settings = good(text)
    told = MeshSettings.from_json(settings.mesh_settings().to_json())
    assert told == settings.mesh_settings()
    # The port of the API is always among those that may be connected to.
    assert entry.value(told) == ((443, *value) if entry.name == "connect_ports" else value)
    assert settings.edition() != Config().edition()


@pytest.mark.parametrize(
    "entry", [each for each in TABLE if each.name not in FOR_WORKERS], ids=lambda entry: entry.name
)
def test_what_is_for_the_service_stays_there_and_outdates_no_worker(entry: Entry) -> None:
    settings = good(sample(entry)[0])
    assert settings.mesh_settings() == Config().mesh_settings()
    assert settings.edition() == Config().edition()


def test_the_modes_are_those_of_the_api() -> None:
    assert set(options.MESH_MODES) == set(MeshMode)


def test_the_helper_for_videos_is_told_its_part() -> None:
    settings = good("videos: {providers: link}\ntls: {ca_file: /ca.pem}\nproxy: proxy.lan:3128\ndebug: true\n")
    told = settings.with_authorities("certificates").media_settings()
    assert MediaSettings.from_json(told.to_json()) == told
    assert (told.providers, told.debug, told.proxy) == (("link",), True, settings.proxy)
    assert told.tls.authorities == "certificates"
    assert told.key_path == names.YOUTUBE_KEY_FILE


def test_a_bot_is_told_its_part() -> None:
    keys = "".join(f"  {field.name}: made-up-{field.name}\n" for field in dataclasses.fields(ClientIdentity))
    settings = "lang: de\ntyping_delay: 2s\ndebug: true\nmax_connection_attempts: 9\ncommand_prefix: [x]\n"
    settings += "watchdog: 7s\n"
    found = good(f"{settings}client_identity:\n{keys}")
    told = found.mesh_settings()
    for field in dataclasses.fields(told):
        if field.name != "identity":
            assert getattr(told, field.name) == getattr(found, field.name)
    for field in dataclasses.fields(told.identity):
        wanted = field.name in ("request_hash_key", "user_agent", "client_version", "app_build")
        assert getattr(told.identity, field.name) == (f"made-up-{field.name}" if wanted else ""), (
            "no keys for a login"
        )
    assert (told.lang, told.debug, told.max_connection_attempts, told.watchdog) == ("de", True, 9, 7.0)


def test_the_edition_is_that_of_the_program_and_of_what_a_bot_is_told() -> None:
    edition = good("").edition()
    assert edition == Edition(__version__, digest(Config().mesh_settings().to_json()))
    assert good("debug: false\n").edition() == edition, "however it is written"


def test_what_has_changed_is_named_without_its_values() -> None:
    before = good("limit: 5\nclient_identity: {request_hash_key: abcd}\n")
    after = good(
        "debug: true\nclient_identity: {request_hash_key: beef, app_build: '1'}\ntls: {ca_file: /a.pem}\n"
        "unconfirmed_calls: {vote_time: milliseconds}\nvideos: {searches_per_user: 1}\n"
    )
    after = dataclasses.replace(after, database=Database(uri="mongodb://user:secret@host", path="/d.json"))
    assert options.changes(before, before.with_authorities("a certificate")) == []
    assert options.changes(before, after) == [
        "client_identity.request_hash_key",
        "client_identity.app_build",
        "tls.ca_file",
        "debug",
        "unconfirmed_calls.vote_time",
        "limit",
        "videos.searches_per_user",
        "database.json",
    ]


def test_a_bot_may_connect_to_what_is_listed_to_the_api_and_to_the_proxy() -> None:
    assert Config().mesh_settings().connect_ports == (443,)
    text = "connect_ports: 8443\nservers: {api: 'https://a.test:9000'}\nproxy: http://proxy.lan:3128"
    assert good(text).mesh_settings().connect_ports == (3128, 8443, 9000)
