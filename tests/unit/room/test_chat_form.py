"""The form in which chat is sent: each message arrives, at most once, in the form that the server wants."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.room.chat_form import ECHO_WAIT_S, ChatForm, ChatForms

BOTH = frozenset(ChatForm)
KINDS = [BOTH, frozenset({ChatForm.REQUEST}), frozenset({ChatForm.NOTIFICATION})]


class Server:
    """Plays a server and the clock: shows messages in some forms, refuses or swallows others, echoes late."""

    def __init__(self, shows: frozenset[ChatForm], *, refuses: bool = False, new_ids: bool = False) -> None:
        self.shows = shows
        self.refuses = refuses
        self.new_ids = new_ids
        self.now = 0.0
        self.echo_delay: Callable[[], float | None] = lambda: 0.0
        self.loses: Callable[[], bool] = lambda: False
        self.shown: Counter[str] = Counter()
        self.forms = ChatForms(None, lambda: self.now)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def say(self, text: str) -> None:
        message_id = f"id of {text}"
        self._take(message_id, text, self.forms.send(message_id, text, {"chat": text}))

    def _take(self, message_id: str, text: str, form: ChatForm) -> None:
        if self.loses():
            return
        if form in self.shows:
            self.shown[text] += 1
            delay = self.echo_delay()
            if delay is not None:
                echoed = f"another {message_id}" if self.new_ids else message_id
                ours = not self.new_ids
                self.at(self.now + delay, lambda: self._echo(echoed, text, known_id=ours))
        elif self.refuses and form is ChatForm.REQUEST:
            other = self.forms.refused(message_id, 400, "not a notification")
            if other:
                self._take(message_id, text, other)

    def _echo(self, message_id: str, text: str, *, known_id: bool) -> None:
        self.forms.echoed(message_id, text, known_id=known_id)

    def run(self, until: float = float("inf")) -> None:
        while True:
            event = self._events[0][0] if self._events else float("inf")
            due = self.forms.next_due
            moment = min(event, float("inf") if due is None else due)
            if moment > until or moment == float("inf"):
                return
            self.now = max(self.now, moment)
            if event <= moment:
                heapq.heappop(self._events)[2]()
            else:
                for sent in self.forms.due():
                    self._take(sent.id, sent.text, sent.form)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    shows=st.sampled_from(KINDS),
    refuses=st.booleans(),
    new_ids=st.booleans(),
    delays=st.lists(st.floats(0, 30), min_size=1, max_size=8),
    gaps=st.lists(st.floats(0, 90), min_size=1, max_size=30),
)
def test_every_message_is_shown_once(
    shows: frozenset[ChatForm], refuses: bool, new_ids: bool, delays: list[float], gaps: list[float]
) -> None:
    server = Server(shows, refuses=refuses, new_ids=new_ids)
    server.echo_delay = itertools.cycle(delays).__next__
    moments = list(itertools.accumulate(gaps))
    for number, moment in enumerate(moments):
        # Each text twice: a text tells nothing for certain.
        server.at(moment, lambda text=f"{number // 2}, {number}": server.say(text))
    server.run()
    assert server.shown == {f"{number // 2}, {number}": 1 for number in range(len(gaps))}
    assert server.forms.unshown == 0
    assert server.forms.known
    assert server.forms.form in shows


@pytest.mark.slow
@settings(max_examples=300)
@given(
    shows=st.sampled_from(KINDS),
    new_ids=st.booleans(),
    delays=st.lists(st.floats(0, 30), min_size=1, max_size=8),
    losses=st.lists(st.booleans(), max_size=20),
    gaps=st.lists(st.floats(0, 90), min_size=1, max_size=20),
)
def test_what_is_lost_on_the_way_is_never_shown_twice_and_the_form_is_found_in_the_end(
    shows: frozenset[ChatForm], new_ids: bool, delays: list[float], losses: list[bool], gaps: list[float]
) -> None:
    server = Server(shows, new_ids=new_ids)
    server.echo_delay = itertools.cycle(delays).__next__
    lost = iter(losses)
    server.loses = lambda: next(lost, False)
    for number, moment in enumerate(itertools.accumulate(gaps)):
        server.at(moment, lambda text=f"message {number}": server.say(text))
    server.run()
    assert max(server.shown.values(), default=0) <= 1
    # Losses are over; however long that has made it wait to try again, it does.
    list(lost)
    for number in range(40):
        server.now += 1800
        server.say(f"later {number}")
        server.run()
    assert max(server.shown.values()) == 1
    assert server.shown["later 39"] == 1


def test_the_second_attempt_waits_for_the_latest_echo() -> None:
    server = Server(frozenset({ChatForm.NOTIFICATION}))
    server.say("first")
    server.run(ECHO_WAIT_S - 0.1)
    assert not server.shown
    server.run(ECHO_WAIT_S)
    assert server.shown == {"first": 1}
    server.run()
    server.say("second")
    assert server.shown["second"] == 1, "what was learned holds"


def test_a_refusal_that_speaks_of_the_form_is_believed_at_once() -> None:
    server = Server(frozenset({ChatForm.NOTIFICATION}), refuses=True)
    server.say("first")
    assert (server.now, server.shown["first"]) == (0.0, 1)


@pytest.mark.parametrize("code", [403, 413, 429, 500])
def test_another_refusal_is_final_and_counted(code: int) -> None:
    forms = ChatForms(None, lambda: 0.0)
    forms.send("1", "hi", {})
    assert forms.refused("1", code, "muted") is None
    assert (forms.form, forms.unshown, forms.next_due) == (ChatForm.REQUEST, 1, None)


def test_a_server_that_never_echoes_sees_few_messages_twice_and_all_are_counted() -> None:
    server = Server(BOTH)
    server.echo_delay = lambda: None
    for number in range(6 * 60):
        server.at(10.0 * number, lambda text=f"message {number}": server.say(text))
    server.run()
    assert len(server.shown) == server.forms.unshown == 360
    assert sum(times > 1 for times in server.shown.values()) <= 7, "within an hour"


def test_a_server_that_no_longer_takes_what_it_took_is_learned_anew() -> None:
    server = Server(BOTH)
    server.say("before")
    server.run()
    server.shows = frozenset({ChatForm.NOTIFICATION})
    for number in range(6):
        server.now += 60
        server.say(f"after {number}")
        server.run()
    assert server.shown["after 5"] == 1
    assert server.forms.unshown == 3


@pytest.mark.parametrize("form", ChatForm)
def test_a_fixed_form_is_never_left_and_what_has_no_echo_is_counted(form: ChatForm) -> None:
    now = 0.0
    forms = ChatForms(form, lambda: now)
    assert forms.send("1", "hi", {}) is form
    assert forms.refused("1", 400, "") is None
    forms.send("2", "hi", {})
    now = ECHO_WAIT_S
    assert forms.due() == []
    assert (forms.form, forms.unshown, forms.next_due) == (form, 2, None)


def test_an_echo_that_comes_again_stands_for_no_other_message() -> None:
    forms = ChatForms(None, lambda: 0.0)
    forms.send("1", "a", {})
    forms.send("2", "b", {})
    assert forms.echoed("new", "a", known_id=False) == "1"
    assert forms.echoed("new", "a", known_id=True) is None
    assert forms.echoed("1", "a", known_id=True) is None
    assert forms.echoed("2", "b", known_id=True) == "2"


def test_an_echo_in_a_form_that_was_given_up_changes_nothing() -> None:
    forms = ChatForms(None, lambda: 0.0)
    forms.send("1", "a", {})
    forms.send("2", "b", {})
    assert forms.refused("2", 400, "") is ChatForm.NOTIFICATION
    assert forms.refused("3", 400, "") is None
    assert forms.echoed("2", "b", known_id=True) == "2"
    assert forms.echoed("1", "a", known_id=True) == "1"
    assert (forms.form, forms.known) == (ChatForm.NOTIFICATION, True)


def test_one_message_tries_the_other_form_while_the_rest_wait() -> None:
    now = 0.0
    forms = ChatForms(None, lambda: now)
    for number in "123":
        forms.send(number, number, {})
    now = ECHO_WAIT_S
    assert [(sent.id, sent.form) for sent in forms.due()] == [("1", ChatForm.NOTIFICATION)]
    assert (forms.due(), forms.unshown) == ([], 0)


def test_what_a_connection_takes_along_is_neither_counted_nor_sent_again() -> None:
    forms = ChatForms(None, lambda: 0.0)
    forms.send("1", "a", {})
    forms.disconnected()
    assert (forms.next_due, forms.due(), forms.unshown) == (None, [], 0)


def test_no_number_of_messages_fills_the_memory() -> None:
    forms = ChatForms(None, lambda: 0.0)
    for number in range(200):
        forms.send(str(number), "x", {})
    assert len(forms._waiting) == 64
    assert forms.unshown == 200 - 64
