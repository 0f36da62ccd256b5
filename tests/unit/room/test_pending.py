from __future__ import annotations

from ravesvc.room.frames import ErrorResponse, Response
from ravesvc.room.pending import Pending


async def test_ids_are_unique_among_the_open_ones() -> None:
    picks = iter([5, 5, 5, 6, 5])
    pending = Pending(lambda: next(picks))
    assert [pending.add()[0], pending.add()[0]] == [5, 6]
    pending.drop(5)
    assert pending.add()[0] == 5


async def test_ids_have_seven_digits_at_most() -> None:
    pending = Pending()
    ids = [pending.add()[0] for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(1 <= request_id <= 9_999_999 for request_id in ids)


async def test_an_answer_reaches_its_request_alone() -> None:
    pending = Pending()
    (one, first), (two, second) = pending.add(), pending.add()
    assert pending.resolve(ErrorResponse(two, 403, "no"))
    assert not first.done()
    assert await second == ErrorResponse(two, 403, "no")
    assert not pending.resolve(Response(two, {}))
    first.cancel()
    assert not pending.resolve(Response(one, {}))


async def test_the_end_tells_all() -> None:
    pending = Pending()
    (_, first), (_, second) = pending.add(), pending.add()
    first.cancel()
    pending.end()
    assert await second is None
    pending.end()
