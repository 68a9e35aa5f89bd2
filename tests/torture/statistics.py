"""``python -m torture.statistics``: boards with a known truth, and how often the statistics are wrong about them.

Under no effect a board is wrong if it shows any difference; under a known one the promised power must be found. The
first broken promise gives the status 1.
"""

import argparse
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from chembench.config import stable_seed
from chembench.header import environment_now
from chembench.statistics.against import difference
from chembench.statistics.comparison import half_widths
from chembench.statistics.estimates import OVERLAP, estimate_crossed
from chembench.statistics.power import AXIS_NAMES, POWER, detectable_difference, replicates_needed
from chembench.statistics.spread import spread
from torture import simulated, statistics_report

LIMIT = 0.07
"""Of boards with any false separation, at a family-wise level of 5 %."""
POINTS = 0.05
"""Between promised and found power."""
METHODS = (5, 18)
NULLS = (simulated.EVEN, simulated.RUNS, simulated.CHECKPOINTS, simulated.DOUBLE, simulated.ONE_WIDE)
FOLDED = (simulated.FOLDS, simulated.TESTED, simulated.TRAINED)
EFFECTS = (simulated.EVEN, simulated.RUNS, simulated.CHECKPOINTS)


def judged(scores_MPHB, layout):
    """Names best first, differences of means and half widths of their intervals, as `compare` has them."""
    board = simulated.table_of(scores_MPHB, layout)
    found = spread(board, OVERLAP if layout.outer > 1 else 0.0)
    upper = np.triu_indices(len(board.methods), 1)
    mean_M = np.array([method.mean for method in board.methods])
    order_M = np.array([int(name[1:]) for name in board.names])
    return order_M[upper[0]], order_M[upper[1]], mean_M[upper[0]] - mean_M[upper[1]], half_widths(found, 0.05)[upper]


def false_separations(layout, truth, methods, boards, seed):
    """Shares of boards with any false separation, of intervals of a mean and of a difference that hold the truth."""
    random = np.random.default_rng(stable_seed("no effect", seed, layout, truth, methods))
    wrong, means, differences = 0, [], []
    for _ in range(boards):
        scores_MPHB = simulated.scores_of(random, layout, truth, methods, np.zeros(methods))
        _, _, between, half = judged(scores_MPHB, layout)
        wrong += bool((np.abs(between) > half).any())
        if methods == METHODS[0]:
            scores = simulated.keyed(scores_MPHB[1:3], layout)
            own, apart = estimate_crossed(scores["m00"]), difference(scores["m00"], scores["m01"])
            means.append(own.low <= 0 <= own.high)
            differences.append(apart.low <= 0 <= apart.high)
    shares = {"mean": float(np.mean(means)), "difference": float(np.mean(differences))} if means else {}
    return {"false": wrong / boards, **shares}


def found_power(layout, truth, methods, effect, boards, seed):
    """Shares of pairs with the one better method that are separated, and of boards of which every interval is true."""
    random = np.random.default_rng(stable_seed("effect", seed, layout, truth, methods))
    true_M = np.array([-effect] + [0.0] * (methods - 1))
    separated = covered = 0.0
    for _ in range(boards):
        first, second, between, half = judged(simulated.scores_of(random, layout, truth, methods, true_M), layout)
        is_pair = (first == 0) | (second == 0)
        separated += float(((between < -half) & (first == 0))[is_pair].mean())
        covered += bool((np.abs(between - (true_M[first] - true_M[second])) <= half).all())
    return {"power": separated / boards, "all": covered / boards}


def powers(layout, truth, methods, boards, seed):
    """Power found at the smallest difference that the design promises to show, and with the replicates it asks for."""
    design = simulated.design(layout, truth, methods)
    effect = detectable_difference(design)
    found = found_power(layout, truth, methods, effect, boards, seed)
    asked = replicates_needed(design, 0.7 * effect, "outer" if layout.outer > 1 else "split")
    record = {"detectable": effect, **found, "asked": None}
    if asked is not None:
        more, axis = asked
        field = {name: short for short, name in AXIS_NAMES.items()}[axis]
        field = {"pretrain_seed": "pretrain_seeds", "head_seed": "head_seeds", "split": "splits", "outer": "outer"}[
            field
        ]
        larger = replace(layout, **{field: getattr(layout, field) + more})
        again = found_power(larger, truth, methods, 0.7 * effect, boards, seed)
        record |= {"asked": f"{more} x {axis}", "with_them": again["power"]}
    return record


def read_as_architectures(layout, truth, methods, boards, seed):
    """What one checkpoint each would show if it were read as a claim about architectures: no promise, a warning."""
    random = np.random.default_rng(stable_seed("claim", seed, layout, truth, methods))
    wrong = 0
    for _ in range(boards):
        checkpoints_M = truth.pretrain * random.standard_normal(methods)
        _, _, between, half = judged(simulated.scores_of(random, layout, truth, methods, checkpoints_M), layout)
        wrong += bool((np.abs(between) > half).any())
    return {"false": wrong / boards}


def tasks():
    """Everything that is simulated: a name of a function, a layout, a truth, a number of methods."""
    for layout in simulated.LAYOUTS:
        for methods in METHODS:
            nulls = (*NULLS, *FOLDED) if layout.outer > 1 else NULLS
            yield from (("false_separations", layout, truth, methods) for truth in nulls)
            effects = (*EFFECTS, simulated.FOLDS) if layout.outer > 1 else EFFECTS
            yield from (("powers", layout, truth, methods) for truth in effects)
            if layout.pretrain_seeds == 1 and layout.outer == 1:
                yield ("read_as_architectures", layout, simulated.EVEN, methods)


def carried_out(given):
    name, layout, truth, methods, boards, seed = given
    started = time.monotonic()
    record = globals()[name](layout, truth, methods, boards, seed)
    return {"what": name, "layout": layout, "truth": truth, "methods": methods, **record} | {
        "seconds": time.monotonic() - started
    }


def broken(record):
    """Promises that a record breaks."""
    if record["what"] == "false_separations" and record["false"] > LIMIT:
        return [f"{record['false']:.3f} false separations, at most {LIMIT} are promised"]
    if record["what"] != "powers":
        return []
    problems = [] if abs(record["power"] - POWER) <= POINTS else [f"power {record['power']:.3f}, {POWER} was promised"]
    with_them = record.get("with_them", POWER)  # replicates come whole, so that this may be more
    return problems + ([f"power {with_them:.3f} with them, {POWER} was promised"] if with_them < POWER - POINTS else [])


def main():
    parser = argparse.ArgumentParser(prog="torture.statistics", description=__doc__)
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--effects", type=int, default=400, help="boards of each row with a known effect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", type=Path, default=Path("reports/statistics.md"))
    given = parser.parse_args()
    boards = {"powers": given.effects}
    work = [(*task, boards.get(task[0], given.boards), given.seed) for task in tasks()]
    records, failed, machine = [], 0, environment_now()
    with get_context("spawn").Pool(given.processes) as pool:
        for record in pool.imap(carried_out, work):
            records.append(record)
            problems = broken(record)
            failed += bool(problems)
            said = {k: v for k, v in record.items() if k not in ("what", "layout", "truth", "methods")}
            line = [record["what"], record["layout"].name, record["truth"].name, record["methods"], said, *problems]
            sys.stdout.write("; ".join(map(str, line)) + "\n")
            sys.stdout.flush()
    statistics_report.write(given.report, records, given, machine)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
