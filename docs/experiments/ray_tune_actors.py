"""How one Ray Tune run behaves as a queue of items with warm actors.

    python docs/experiments/ray_tune_actors.py [kill] [shapes] [blocking] [barrier] [overhead] [signals]

The first half is the skeleton our Ray runner follows; the second half are the measured scenarios.
Findings: ray_tune_actors.md, beside this file.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque

os.environ.update(  # read by Ray and Tune when they are imported
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",  # our handler asks suggest() to stop; Tune's would drop running items
    TUNE_GLOBAL_CHECKPOINT_S="1000000000",  # the experiment state is never restored from
    RAY_AIR_NEW_OUTPUT="0",
    RAY_CHDIR_TO_TRIAL_DIR="0",  # relative paths keep their meaning in a worker
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_USAGE_STATS_ENABLED="0",
)
import ray
from ray import tune
from ray.tune.search import Searcher

WARM: dict = {}  # lives as long as the actor's process: data sets, backbones


class Worker(tune.Trainable):
    """One process, many items. `setup` stays empty: an actor that is slow to start is never reached by short items."""

    def setup(self, config: dict) -> None:
        self.item = config

    def reset_config(self, new_config: dict) -> bool:
        self.item = new_config
        return True

    def step(self) -> dict:
        WARM["items"] = WARM.get("items", 0) + 1
        time.sleep(self.item.get("seconds", 0))
        if self.item.get("die") == self.item["attempt"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.item.get("fail") == self.item["attempt"]:
            raise ValueError("the item failed")
        return {"done": True, "pid": os.getpid(), "nth": WARM["items"]}


class Queue(Searcher):
    """Hands out what is ready, hands a failed item out again, keeps actors warm, ends when nothing is open."""

    def __init__(self, items: list[dict], attempts: int = 2, hold_seconds: float = 0.5) -> None:
        super().__init__()
        self.waiting = deque({"attempt": 1, "needs": (), **item} for item in items)
        self.attempts, self.hold_seconds = attempts, hold_seconds
        self.open, self.ended, self.done = {}, [], set()
        self.stopped = threading.Event()

    def suggest(self, trial_id: str) -> dict | str | None:
        item = None if self.stopped.is_set() else self.next_item()
        if item is None:  # FINISHED is final: a failed item could not be handed out again after it
            return None if self.open else Searcher.FINISHED
        self.open[trial_id] = item
        return item

    def next_item(self) -> dict | None:
        for index, item in enumerate(self.waiting):
            if self.done.issuperset(item["needs"]):
                del self.waiting[index]
                return item
        is_working = any(item["name"] != "hold" for item in self.open.values())
        if self.waiting and is_working and self.hold_seconds:  # an idle actor would be ended: keep it busy
            return {"name": "hold", "attempt": 1, "seconds": self.hold_seconds}
        return None

    # Tune passes these three by keyword. `on_trial_result` never comes: the only result says done.
    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        item = self.open.pop(trial_id)
        self.ended.append((time.perf_counter(), item, None if error else result["pid"]))
        if not error:
            self.done.add(item["name"])
        elif item["attempt"] < self.attempts:
            self.waiting.appendleft({**item, "attempt": item["attempt"] + 1})

    def __getstate__(self) -> dict:  # Tuner() pickles the searcher; nothing ever reads it back
        return {}

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def resources(item: dict) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([{"CPU": item.get("cpus", 1)}])


def run_items(queue: Queue, slots: int | None = 2) -> None:
    """Work the queue to its end. Ray must be running."""
    tuner = tune.Tuner(
        tune.with_resources(Worker, resources),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(prefix="tune_"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the default True fails every item
        ),
    )
    with contextlib.redirect_stdout(sys.stderr):  # the raylet's messages about dead workers go to stdout
        tuner.fit()


def start_ray(folder: str, cpus: int = 2) -> None:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # causes are ours to tell
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,  # short: a socket's path has at most 107 bytes
    )


def stop_on_signals(queue: Queue, grace_seconds: float) -> None:
    """First signal: nothing new is handed out. A second one, or the end of the grace: exit status 4, resumable."""

    def on_signal(number: int, frame: object) -> None:
        if queue.stopped.is_set():
            os._exit(4)
        queue.stopped.set()
        timer = threading.Timer(grace_seconds, os._exit, (4,))  # fit() may hang where the raylet got the signal too
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)


# The scenarios ---------------------------------------------------------------------------------------------------


def items(count: int, **fields: float) -> list[dict]:
    return [{"name": f"i{n}", **fields} for n in range(count)]


def report(title: str, queue: Queue, slots: int | None = 2) -> Queue:
    began = time.perf_counter()
    run_items(queue, slots)
    pids = [pid for _, _, pid in queue.ended if pid]
    print(f"{title}: {time.perf_counter() - began:.1f} s, {len(queue.ended)} ended, {len(set(pids))} actors,", end=" ")
    print("items per actor", sorted(Counter(pids).values()), "errors", sum(pid is None for *_, pid in queue.ended))
    return queue


def kill() -> None:
    for seconds in (0.5, 3.0):
        work = items(10, seconds=seconds)
        work[2]["die"] = 1
        queue = report(f"a worker is killed, items of {seconds} s", Queue(work))
        print("   pids in order", [pid for _, _, pid in queue.ended])
    work = items(6, seconds=0.5)
    work[2]["fail"] = 1
    report("an item raises", Queue(work))


def shapes() -> None:
    report("12 items, one shape", Queue(items(12, seconds=0.1)))
    blocks = [{"name": f"i{n}", "seconds": 0.1, "cpus": 1 + n // 6} for n in range(12)]
    report("12 items, two shapes in two blocks", Queue(blocks))
    turns = [{"name": f"i{n}", "seconds": 0.1, "cpus": 1 + n % 2} for n in range(12)]
    report("12 items, two shapes in turn", Queue(turns))


def blocking() -> None:
    work = [{"name": "long", "seconds": 4}, {"name": "big", "cpus": 2}, {"name": "s1"}, {"name": "s2"}]
    for slots in (2, 4, None):
        queue = report(f"a big item behind a long one, max_concurrent_trials={slots}", Queue(work), slots)
        print("   order", [item["name"] for _, item, _ in queue.ended])


def barrier() -> None:
    first = items(2, seconds=2.5)
    slow = {"name": "slow", "seconds": 6}
    then = [{"name": f"t{n}", "seconds": 2.5, "needs": ("slow",)} for n in range(3)]
    for hold in (0, 0.5):
        queue = Queue([*first, slow, *then], hold_seconds=hold)
        report(f"two of three slots idle for 3 s, hold_seconds={hold}", queue, slots=3)
        later = {pid for _, item, pid in queue.ended if item["name"].startswith("t")}
        earlier = {pid for _, item, pid in queue.ended[:2]}
        print("   of the actors of the first items, still there:", len(later & earlier))


def overhead() -> None:
    queue = report("300 items of nothing", Queue(items(300)))
    moments = [moment for moment, *_ in queue.ended]
    print(f"   warm: {(moments[-1] - moments[10]) / (len(moments) - 11) * 1e3:.1f} ms an item")


def sweep() -> None:
    queue = Queue(items(100, seconds=2))
    stop_on_signals(queue, grace_seconds=6)
    print("started", flush=True)
    run_items(queue)
    print(f"returned with {len(queue.ended)} ended, {len(queue.open)} open", flush=True)


def signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        for send in (os.kill, os.killpg):
            command = [sys.executable, __file__, "sweep"]
            env = {**os.environ, "TMPDIR": tempfile.gettempdir()}
            driver = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True, env=env)
            driver.stdout.readline()
            time.sleep(5)
            send(driver.pid, number)
            began = time.perf_counter()
            told = driver.communicate()[0].strip()
            took = time.perf_counter() - began
            print(f"{number.name} by {send.__name__}: status {driver.returncode} after {took:.1f} s; {told}")


SCENARIOS = {f.__name__: f for f in (kill, shapes, blocking, barrier, overhead, sweep)}


def main(names: list[str]) -> None:
    for name in names or ["kill", "shapes", "blocking", "barrier", "overhead", "signals"]:
        if name == "signals":  # it starts drivers of its own
            signals()
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
            start_ray(folder, cpus=3 if name == "barrier" else 2)
            print(f"-- {name}: ray.init {time.perf_counter() - began:.1f} s", file=sys.stderr)
            SCENARIOS[name]()
            ray.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as tempfile.tempdir:
        main(sys.argv[1:])
