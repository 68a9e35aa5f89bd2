"""What waits comes out in one order, however it was put in."""

import random
from types import SimpleNamespace

from chembench.sweep.queue import FIRST, Queue
from chembench.sweep.state import ItemRecord

PLACES = {"a": 0, "b": 1, "c": 2}


def item(uid, kind, unit=None, attempt=0):
    return ItemRecord(uid, SimpleNamespace(kind=kind), None, {"unit": unit}, attempt)


def uids(queue):
    return [item.uid for item in queue]


def test_items_started_before_come_first_then_the_kinds_then_the_units_then_the_oldest():
    queue = Queue(PLACES)
    wanted = [
        item("lost search", "search", "c", attempt=2),
        item("lost baseline", "baseline", attempt=1),
        item("confirm of a", "confirm", "a"),
        item("confirm of b", "confirm", "b"),
        item("rescore", "rescore", "b"),
        item("search of a, old", "search", "a"),
        item("search of a, new", "search", "a"),
        item("search of c", "search", "c"),
        item("pretrain, old", "pretrain"),
        item("pretrain, new", "pretrain"),
        item("baseline", "baseline"),
    ]
    order = [*wanted[::2], *wanted[1::2]]
    old_before_new = sorted(order, key=lambda i: i.uid.endswith("new"))
    for one in old_before_new:
        queue.put(one)
    assert uids(queue) == [one.uid for one in wanted]


def test_what_runs_waits_no_longer_and_what_is_superseded_is_left_out():
    queue = Queue(PLACES)
    one, two = item("1", "confirm", "a"), item("2", "confirm", "a")
    queue.put(one), queue.put(two)
    one.status, one.attempt = "running", 1
    two.superseded = True
    queue.put(one), queue.put(two)
    assert uids(queue) == [] and not queue.is_empty
    one.status = "waiting"
    queue.put(one)
    assert uids(queue) == ["1"]
    one.status, two.superseded = "finished", False
    queue.put(one), queue.put(two)
    assert uids(queue) == ["2"]
    two.status = "failed"
    queue.put(two)
    assert queue.is_empty


def test_after_any_changes_the_order_is_that_of_all_that_wait():
    dice = random.Random(0)
    queue, items = Queue(PLACES), []
    for step in range(3000):
        if step < 200:
            items.append(item(str(step), dice.choice(FIRST), dice.choice([*PLACES, None])))
            queue.put(items[-1])
            continue
        one = dice.choice(items)
        one.status = dice.choice(["waiting", "waiting", "running", "finished", "failed"])
        one.attempt += one.status == "running"
        one.superseded = one.kind == "confirm" and dice.random() < 0.3
        queue.put(one)
        if step % 50 == 0:
            left = [i for i in items if i.status == "waiting" and not i.superseded]
            left.sort(key=lambda i: (i.attempt == 0, FIRST.index(i.kind), PLACES.get(i.labels["unit"], 0), int(i.uid)))
            assert uids(queue) == [i.uid for i in left]
            assert queue.is_empty == (not left and all(i.status != "running" for i in items))
