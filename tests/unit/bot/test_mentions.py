from __future__ import annotations

import pytest

from ravesvc.bot.mentions import MAX_MENTIONS, Member, Mentioned, is_in, mentions_in
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention

ANN, LEE = Member(2, "Ann"), Member(3, "Ann Lee")


@pytest.mark.parametrize(
    ("member", "mention"),
    [(ANN, "@Ann"), (LEE, "@Ann Lee"), (Member(4, ""), "@4"), (Member(5, " \t"), "@5"), (Member(6, "*"), "@*")],
)
def test_what_a_member_writes_mentions_the_member(member: Member, mention: str) -> None:
    assert member.mention == mention
    assert mentions_in(f"Well done {member.mention}!", [member]) == (Mention(member.id, mention[1:]),)


def test_each_is_mentioned_once_and_users_of_one_name_each() -> None:
    other: list[Mentioned] = [Member(9, "Ann"), Mention(2, "Ann")]
    assert mentions_in("@Ann", [ANN, *other, ANN]) == (Mention(2, "Ann"), Mention(9, "Ann"))


@pytest.mark.parametrize("text", ["Well done", "Ann", "@Annabel", "@An", "@ann", ""])
def test_who_is_not_in_the_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(RaveError, match="mentions @Ann without saying so") as caught:
        mentions_in(text, [ANN])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_name_is_no_part_of_a_longer_one_but_ends_where_a_mark_follows() -> None:
    assert not is_in(Mention(2, "Ann"), "@Annabel and @Ann2")
    assert is_in(Mention(2, "Ann"), "@Annabel and @Ann, too")
    assert is_in(Mention(2, "a.b"), "@a.b")
    assert not is_in(Mention(2, "a.b"), "@axb")


def test_many_are_refused() -> None:
    members = [Member(number, f"user{number}x") for number in range(MAX_MENTIONS + 1)]
    text = " ".join(member.mention for member in members)
    assert len(mentions_in(text, members[1:])) == MAX_MENTIONS
    with pytest.raises(RaveError, match="at most 5 users"):
        mentions_in(text, members)
