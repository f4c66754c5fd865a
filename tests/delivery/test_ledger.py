from __future__ import annotations

import json
import threading
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from otelagent.delivery import Ledger

MOVES: list[Callable[[Ledger, int], None]] = [
    lambda ledger, n: ledger.delivered(n),
    lambda ledger, n: ledger.rejected(n, "http_400"),
    lambda ledger, n: ledger.rejected(n, "redirect"),
    lambda ledger, n: ledger.dropped(n, "queue_full"),
    lambda ledger, n: ledger.spooled(n),
]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9))))
def test_every_move_keeps_the_equation(steps: list[tuple[int, int]]) -> None:
    ledger = Ledger("traces")
    for step, n in steps:
        if step == 5:
            ledger.ended(n)
        elif step == 6:
            ledger.sampled_out(n)
        elif step == 7:
            ledger.adopted(n)
        elif step == 8:
            ledger.unspooled(min(n, ledger.snapshot().spooled))
        else:
            MOVES[step](ledger, min(n, ledger.snapshot().queued))
        assert ledger.snapshot().balanced


def test_a_caller_that_moves_too_much_shows() -> None:
    ledger = Ledger("traces")
    ledger.ended(1)
    ledger.delivered(2)
    assert not ledger.snapshot().balanced


def test_many_threads_count_exactly_and_every_snapshot_balances() -> None:
    ledger = Ledger("traces")
    unbalanced = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (snapshot := ledger.snapshot()).balanced:
                unbalanced.append(snapshot)

    def work() -> None:
        for _ in range(2000):
            ledger.ended(3)
            ledger.delivered(1)
            ledger.rejected(1, "http_400")
            ledger.dropped(1, "queue_full")
            ledger.sampled_out(1)

    watcher = threading.Thread(target=watch)
    workers = [threading.Thread(target=work) for _ in range(8)]
    for thread in (watcher, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    watcher.join()
    assert not unbalanced
    snapshot = ledger.snapshot()
    assert (snapshot.ended, snapshot.sampled_out, snapshot.delivered) == (64_000, 16_000, 16_000)
    assert (dict(snapshot.rejected), dict(snapshot.dropped)) == ({"http_400": 16_000}, {"queue_full": 16_000})


def test_a_snapshot_is_json_and_does_not_change() -> None:
    ledger = Ledger("traces")
    ledger.ended(2)
    ledger.dropped(1, "shutdown")
    snapshot = ledger.snapshot()
    ledger.dropped(1, "shutdown")
    assert json.loads(json.dumps(snapshot.to_dict())) == {
        "signal": "traces",
        "ended": 2,
        "adopted": 0,
        "sampled_out": 0,
        "filtered": 0,
        "delivered": 0,
        "rejected": {},
        "dropped": {"shutdown": 1},
        "spooled": 0,
        "queued": 1,
        "balanced": True,
    }


def test_the_child_of_a_fork_starts_from_zero_even_if_the_lock_was_held() -> None:
    ledger = Ledger("traces")
    ledger.ended(2)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger._lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    ledger.after_fork_in_child()
    assert ledger.snapshot().ended == 0
    release.set()
    holder.join()
