"""What fits on which node, as nodes die and join."""

import pytest

from chembench.errors import RunError
from chembench.sweep.ray_room import LOOK_SECONDS, Patience, Room
from chembench.sweep.space import ResourceShape

ONE = ResourceShape(cpus=1)
TWO = ResourceShape(cpus=2)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Cluster:
    """Nodes that a test changes; counts how often it was looked at."""

    def __init__(self, **nodes):
        self.nodes, self.looks = nodes, 0

    def __call__(self):
        self.looks += 1
        return dict(self.nodes)


def cpu(count):
    return {"CPU": float(count)}


def gpu(count, cpus=16):
    return {"CPU": float(cpus), "GPU": float(count)}


def fill(room, shape):
    """Book items of one shape until none fits; how many there were."""
    count = 0
    while room.fits(shape):
        room.take(f"{shape.cpus}-{shape.gpus}-{count}", shape)
        count += 1
    return count


def test_an_item_must_fit_on_one_node_although_the_sum_would_hold_it():
    room = Room(Cluster(a=cpu(1), b=cpu(1)))
    assert not room.fits(TWO) and not room.can_hold(TWO)
    assert fill(room, ONE) == 2


def test_shares_are_kept_per_node_and_given_back():
    room = Room(Cluster(a=cpu(2), b=cpu(3)))
    room.take("first", ONE)
    assert fill(room, TWO) == 1, "one of the two CPUs of the first node is taken"
    assert room.can_hold(TWO)
    room.give_back("first")
    assert room.fits(TWO)
    room.give_back("never seen")


def test_items_in_flight_stay_below_the_limit_that_was_set():
    assert fill(Room(Cluster(a=cpu(8), b=cpu(8)), max_concurrent=3), ONE) == 3
    assert fill(Room(Cluster(a=cpu(2)), max_concurrent=None), ResourceShape(cpus=0.5)) == 4


def test_shares_of_gpus_fit_on_one_gpu():
    room = Room(Cluster(a=gpu(2)))
    assert fill(room, ResourceShape(gpus=0.75)) == 2
    assert not room.fits(ResourceShape(gpus=0.5)), "a quarter is left on each"
    assert fill(room, ResourceShape(gpus=0.25)) == 2


def test_a_share_goes_to_the_fullest_gpu_so_that_whole_ones_stay_free():
    room = Room(Cluster(a=gpu(2)))
    room.take("x", ResourceShape(gpus=0.25))
    room.take("y", ResourceShape(gpus=0.5))
    assert fill(room, ResourceShape(gpus=1)) == 1
    assert fill(room, ResourceShape(gpus=0.125)) == 2


def test_several_gpus_are_whole_ones_of_one_node():
    room = Room(Cluster(a=gpu(2), b=gpu(4)))
    assert room.can_hold(ResourceShape(gpus=4)) and not room.can_hold(ResourceShape(gpus=5))
    room.take("x", ResourceShape(gpus=4))
    assert fill(room, ResourceShape(gpus=2)) == 1
    assert not room.fits(ResourceShape(gpus=0.125))


def test_many_small_shares_add_up_to_the_whole():
    assert fill(Room(Cluster(a=gpu(1))), ResourceShape(cpus=0.1, gpus=0.1)) == 10


def test_nodes_that_die_or_join_are_seen_after_some_seconds_and_not_asked_for_at_each_suggestion():
    clock, cluster = Clock(), Cluster(a=cpu(2))
    room = Room(cluster, clock=clock)
    assert fill(room, ONE) == 2
    cluster.nodes["b"] = cpu(4)
    assert not room.fits(TWO) and cluster.looks == 1
    clock.now += LOOK_SECONDS
    assert fill(room, TWO) == 2 and cluster.looks == 2
    del cluster.nodes["b"]
    clock.now += LOOK_SECONDS
    assert not room.can_hold(ResourceShape(cpus=4))
    assert not room.fits(ONE), "items on the dead node take nothing from the living one, which is full"
    room.give_back("1.0-0.0-0")
    assert room.fits(ONE)


def test_a_cluster_without_nodes_holds_nothing():
    room = Room(Cluster())
    assert not room.fits(ONE) and not room.can_hold(ONE)


def test_a_node_is_waited_for_with_a_word_and_then_no_longer():
    clock, said = Clock(), []
    patience = Patience(60.0, said.append, clock)
    shape = ResourceShape(cpus=4, gpus=1)
    patience.wait(shape)
    clock.now = 60.0
    patience.wait(shape)
    assert said == [
        "a node with 4 CPU and 1 GPU is needed for what is left, none is alive; waiting 60 s for one to join"
    ]
    clock.now = 61.0
    with pytest.raises(RunError) as caught:
        patience.wait(shape)
    assert caught.value.cause == "worker-lost"
    assert str(caught.value) == (
        "a node with 4 CPU and 1 GPU is needed for what is left, none is alive for 60 s; "
        "start one and give the same command again, or lower [resources]"
    )


def test_a_node_that_joins_starts_the_patience_anew():
    clock, said = Clock(), []
    patience = Patience(60.0, said.append, clock)
    patience.wait(ONE)
    clock.now = 59.0
    patience.end()
    clock.now = 100.0
    patience.wait(ONE)
    clock.now = 159.0
    patience.wait(ONE)
    assert len(said) == 2
