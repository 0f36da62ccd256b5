"""Logging in: one login at a time, its mail, how it ends, and what it saves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from ravesvc.api.login import Step
from ravesvc.errors import Code, RaveError
from ravesvc.store.credentials_file import read_credentials, write_credentials
from tests.unit.conftest import until
from tests.unit.core.account_site import (
    OTHERS,
    OURS,
    REFUSED,
    Run,
    Site,
    failure,
    lines,
    plain,
    site,
)
from tests.unit.fake_store import DOWN, credentials


async def test_a_login(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path) as made:
        rave, account = made.rave, made.account
        assert (account.step, account.seconds_left) == ("", 0)
        login = asyncio.create_task(account.login("Bot@example.test"))
        await until(lambda: account.step == "sending")
        assert not login.done()
        rave.sent.set()
        assert await login == 600
        assert account.step == "waiting"
        made.now += 100.5
        assert account.seconds_left == 500
        ends = [asyncio.create_task(account.login_ended()) for _ in range(3)]
        rave.followed.set()
        await until(lambda: account.step == "signing-in")
        assert not any(end.done() for end in ends)
        rave.signed_in.set()
        await asyncio.gather(*ends)
        await account.login_ended()  # still told
        assert (account.step, account.seconds_left) == ("", 0)
        assert [step for step, _ in made.progress] == [
            "sending", "sending", "waiting", "waiting", "signing-in", "signing-in",
        ]  # fmt: skip
        assert made.ended == [None]

        (asked,) = rave.asked
        settings = made.settings
        assert asked["email"] == "Bot@example.test"
        assert (asked["servers"], asked["identity"]) == (settings.servers, settings.identity)
        assert (asked["tls"], asked["lang"]) == (settings.tls, "fr")
        saved = made.store.contents.credentials
        assert saved
        wanted = credentials("Bot@example.test", device_id=asked["device_id"], ssaid=asked["ssaid"])
        assert plain(saved) == wanted == plain(read_credentials(made.path))
        assert saved.updated_at
        assert account.session == wanted.session
        assert account.obstacle is None
        assert lines(caplog) == ["The mail of a login is sent", "A login has succeeded"]


async def test_the_file_follows_a_login_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path, OURS, OURS) as made:
        for address in "other@example.test", "third@example.test":
            await made.login(address)
            made.now += 60
            found = read_credentials(made.path)
            assert found
            assert found.email == address
        assert lines(caplog) == []
        write_credentials(made.path, OTHERS)
        await made.account.adopt()
        assert lines(caplog) == [f"{made.path} differs from the store, which wins: the file is written anew"]


async def test_a_new_account_gets_a_new_device(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        await made.login("other@example.test")
        made.now += 60
        await made.login("third@example.test")
        first, second = made.rave.asked
        for key, length in (("device_id", 32), ("ssaid", 16)):
            assert len(bytes.fromhex(first[key])) * 2 == len(first[key]) == length
            assert len({first[key], second[key], OURS.device_id, OURS.ssaid}) == 4


@pytest.mark.parametrize("email", ["bot@example.test", "BOT@Example.Test", ""])
@pytest.mark.parametrize("where", ["store", "file"])
def test_the_same_account_keeps_its_device(email: str, where: str, run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with site(tmp_path, **{"stored" if where == "store" else "file": OURS}) as made:
            await made.login(email)
            (asked,) = made.rave.asked
            assert (asked["device_id"], asked["ssaid"]) == (OURS.device_id, OURS.ssaid)
            assert asked["email"] == (email or OURS.email)
            assert made.account.session
            assert made.account.session.device_id == OURS.device_id

    run(body())


async def test_the_address_that_was_confirmed_is_kept(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.email = "real@example.test"
        await made.login("typed@example.test")
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "real@example.test"


async def test_a_login_without_an_address(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        refused = await failure(made.account.login(""))
        assert refused.code is Code.LOGIN_NEEDED
        assert str(refused) == "no address is known (run ravectl login, and name it)"
        assert (await failure(made.account.login_ended())).code is Code.NOT_RUNNING


async def test_one_login_at_a_time(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        first = asyncio.create_task(made.account.login("bot@example.test"))
        for step in ("sending", "waiting", "signing-in"):
            await until(lambda step=step: made.account.step == step)
            assert (await failure(made.account.login("other@example.test"))).code is Code.BUSY
            getattr(made.rave, {"sending": "sent", "waiting": "followed", "signing-in": "signed_in"}[step]).set()
        await made.account.login_ended()
        await first
        assert len(made.rave.asked) == 1
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "bot@example.test"


async def test_one_login_at_a_time_while_it_is_saved(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.store.gate.clear()
        await made.account.login("bot@example.test")
        await until(lambda: made.store.waiting_calls)
        made.now += 60
        assert (await failure(made.account.login("other@example.test"))).message == "a login is under way"
        made.account.cancel()  # too late
        made.store.gate.set()
        await made.account.login_ended()
        assert made.account.session
        assert made.ended == [None]


@pytest.mark.parametrize("step", list(Step))
async def test_a_login_is_cancelled(step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        if step is not Step.SENDING:
            made.rave.sent.set()
            await login
        if step is Step.SIGNING_IN:
            made.rave.followed.set()
        await until(lambda: made.account.step == step)
        end = asyncio.create_task(failure(made.account.login_ended()))
        await asyncio.sleep(0)
        made.account.cancel()
        assert (await end).code is Code.CANCELLED
        assert (await failure(made.account.login_ended())).code is Code.CANCELLED
        if step is Step.SENDING:
            assert (await failure(login)).code is Code.CANCELLED
        assert made.account.step == ""
        assert made.ended == [Code.CANCELLED]
        assert plain(made.store.contents.credentials) == OTHERS
        assert made.account.session == OTHERS.session
        assert lines(caplog)[-1] == "A login was cancelled"
        made.account.cancel()
        # The mail may have been sent.
        assert (await failure(made.account.login("bot@example.test"))).code is Code.BUSY
        made.now += 60
        await made.login()


async def test_the_login_after_one_that_was_saved_can_be_cancelled(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        await made.login()
        made.now += 60
        made.rave.followed.clear()
        await made.account.login("bot@example.test")
        made.account.cancel()
        assert (await failure(made.account.login_ended())).code is Code.CANCELLED


async def test_the_time_to_the_next_mail_counts_from_the_end_of_sending(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        await until(lambda: made.account.step == "sending")
        made.now += 30
        made.rave.sent.set()
        await login
        made.account.cancel()
        await failure(made.account.login_ended())
        assert "try again in 60 s" in str(await failure(made.account.login("bot@example.test")))


async def test_a_login_is_cancelled_before_it_begins(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.account.cancel()  # there is none
        login = asyncio.create_task(made.account.login("bot@example.test"))
        asyncio.get_running_loop().call_soon(made.account.cancel)
        assert (await failure(login)).code is Code.CANCELLED
        assert made.ended == [Code.CANCELLED]
        assert made.rave.asked == []


async def test_who_asked_for_a_login_goes_away_but_the_login_goes_on(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        await until(lambda: made.account.step == "sending")
        end = asyncio.create_task(made.account.login_ended())
        await asyncio.sleep(0)
        login.cancel()
        end.cancel()
        await asyncio.gather(login, end, return_exceptions=True)
        made.rave.go_on()
        await made.account.login_ended()
        assert made.account.session


@pytest.mark.parametrize("step", [*Step, "saving"])
async def test_closing_gives_a_login_up(step: str, tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        if step != "sending":
            made.rave.sent.set()
        if step in ("signing-in", "saving"):
            made.rave.followed.set()
        if step == "saving":
            made.store.gate.clear()
            made.rave.signed_in.set()
            await until(lambda: made.store.waiting_calls)
            asyncio.get_running_loop().call_later(0.01, made.store.gate.set)
        else:
            await until(lambda: made.account.step == step)
        await made.account.close()
        await asyncio.gather(login, return_exceptions=True)
        assert made.ended == [None if step == "saving" else Code.CANCELLED]
        # Either all of it or nothing.
        assert bool(made.store.contents.credentials) == bool(made.account.session) == (step == "saving")


@pytest.mark.parametrize("step", list(Step))
async def test_a_login_fails(step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[step] = REFUSED
        if step is Step.SENDING:
            assert await failure(made.account.login("bot@example.test")) is REFUSED
        else:
            await made.account.login("bot@example.test")
        assert await failure(made.account.login_ended()) is REFUSED
        assert made.account.step == ""
        assert made.ended == [Code.FORBIDDEN]
        assert made.account.session == OTHERS.session
        assert lines(caplog)[-1] == "A login has failed: Rave refuses the login"
        made.rave.refusals.clear()
        # Also when it was the sending: a mail may be on its way all the same.
        refused = await failure(made.account.login("bot@example.test"))
        assert refused.code is Code.BUSY
        sent = "may have just" if step is Step.SENDING else "has just"
        assert str(refused) == f"a mail {sent} been sent (try again in 60 s)"
        made.now += 59.5
        assert "try again in 1 s" in str(await failure(made.account.login("bot@example.test")))
        made.now += 0.5
        await made.login()  # at once when there was no mail


async def test_a_bug_in_a_login_is_told_without_detail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.rave.refusals[Step.WAITING] = ZeroDivisionError("a secret")
        await made.account.login("bot@example.test")
        failed = await failure(made.account.login_ended())
        assert failed.code is Code.INTERNAL
        assert "secret" not in str(failed)
        assert made.ended == [Code.INTERNAL]
        assert [record.message for record in caplog.records if record.exc_info] == ["A login has failed"]


async def test_no_mail_for_a_login_that_could_not_be_saved(tmp_path: Path) -> None:
    made = Site(tmp_path)
    made.store.failure = DOWN
    await made.state.start()
    refused = await failure(made.account.login("bot@example.test"))
    assert refused.code is Code.STORE
    assert str(refused) == "a login could not be saved now: the server does not answer (start it)"
    assert made.rave.asked == made.ended == []
    await made.state.close()


@pytest.mark.parametrize("when", ["before it", "during it"])
async def test_a_login_that_cannot_be_saved_changes_nothing(
    when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        made.rave.sent.set()
        await made.account.login("bot@example.test")
        if when == "before it":
            made.state.reachable(False)
        made.store.failure = DOWN
        made.rave.go_on()
        failed = await failure(made.account.login_ended())
        assert failed.code is Code.STORE
        assert failed.message.startswith("the login has succeeded, but could not be saved: ")
        assert lines(caplog)[-1].startswith("A login has failed: the login has succeeded, but could not be saved")
        assert made.account.session == OTHERS.session
        assert plain(read_credentials(made.path)) == OTHERS
        made.store.failure = None
        await until(lambda: made.state.error is None)
        assert made.account.session == OTHERS.session


async def test_a_login_that_was_saved_without_an_answer_comes_to_light(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.store.unanswered = DOWN
        made.rave.go_on()
        await made.account.login("other@example.test")
        assert (await failure(made.account.login_ended())).code is Code.STORE
        assert made.account.session == OURS.session
        await until(lambda: made.account.session != OURS.session)
        assert made.account.session == made.state.credentials.session  # type: ignore[union-attr]
        assert plain(read_credentials(made.path)) == plain(made.state.credentials)


async def test_a_login_sets_a_damaged_file_aside(tmp_path: Path) -> None:
    async with site(tmp_path, file="{bad") as made:
        await made.login()
        assert [each.read_text() for each in made.kept_aside()] == ["{bad"]
        assert made.account.obstacle is None
        assert plain(read_credentials(made.path)) == plain(made.store.contents.credentials)


async def test_a_login_that_brings_the_same_again_renews_the_file(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.path.unlink()
        await made.login()
        assert plain(made.store.contents.credentials) == OURS == plain(read_credentials(made.path))


async def test_a_login_beats_the_file_that_was_about_to_fill_the_store(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.store.gate.clear()
        await made.account.login("other@example.test")
        await until(lambda: made.store.waiting_calls)
        write_credentials(made.path, OURS)
        adoption = asyncio.create_task(made.account.adopt())
        await asyncio.sleep(0)
        made.store.gate.set()
        await made.account.login_ended()
        await adoption
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "other@example.test"
        assert made.account.session == made.store.contents.credentials.session
        assert OURS.device_id not in made.used


async def test_nothing_secret_is_said_by_a_login(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path, OTHERS) as made:
        await made.login()
        made.now += 60
        made.store.unanswered = DOWN
        await made.account.login("third@example.test")
        said = [repr(await failure(made.account.login_ended())), repr(made.account), repr(made.progress)]
        await until(lambda: made.state.error is None)
        for text in (*said, caplog.text):
            for secret in ("example.test", "token-of", "device-of", "ssaid-of", "the-key"):
                assert secret not in text


NO_MAIL = [
    RaveError(Code.WRONG_ADDRESS, "no"),
    RaveError(Code.RATE_LIMITED, "no"),
    RaveError(Code.CONFIG, "no"),
    RaveError(Code.BAD_FILE, "no"),
    RaveError(Code.NETWORK, "Connection refused", unsent=True),
    RaveError(Code.TLS, "no certificate of ours", unsent=True),
]


@pytest.mark.parametrize("error", NO_MAIL)
async def test_what_sent_no_mail_can_be_tried_again_at_once(error: RaveError, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[Step.SENDING] = error
        assert await failure(made.account.login("bot@example.test")) is error
        made.rave.refusals.clear()
        assert await made.account.login("bot@example.test") >= 0
        await made.account.login_ended()


@pytest.mark.parametrize("error", NO_MAIL)
@pytest.mark.parametrize("step", [Step.WAITING, Step.SIGNING_IN])
async def test_a_later_failure_takes_no_mail_back(step: Step, error: RaveError, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[step] = error
        await made.account.login("bot@example.test")
        assert await failure(made.account.login_ended()) is error
        refused = await failure(made.account.login("bot@example.test"))
        assert str(refused) == "a mail has just been sent (try again in 60 s)"


@pytest.mark.parametrize("code", [Code.NETWORK, Code.TIMEOUT, Code.TLS, Code.SERVER_ERROR])
async def test_after_a_failure_on_the_way_a_mail_may_have_been_sent(code: Code, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[Step.SENDING] = RaveError(code, "no")
        await failure(made.account.login("bot@example.test"))
        refused = await failure(made.account.login("bot@example.test"))
        assert str(refused) == "a mail may have just been sent (try again in 60 s)"
