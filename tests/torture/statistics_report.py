"""``reports/statistics.md``: what was simulated, and how often the statistics were wrong."""

from chembench.paths import written_whole
from torture import simulated
from torture.report import table

HEAD = """# Statistics on trial

Boards with a known truth are simulated: checkpoints, head seeds, splits or outer folds and single runs each vary by an
amount of their own, outer folds depend on each other, and all methods find the same splits hard. `tests/torture/` is
the code (`simulated.py`, `statistics.py`), [docs/statistics.md](../docs/statistics.md) says what is tested.

A design is `pre-training seeds x splits x head seeds`. With one level of an axis, a claim is of that checkpoint or
split, and so is the truth.
"""
FALSE = """
## No effect

Share of boards on which any pair is shown to differ, though none does: 5 % are allowed by the test, 7 % by the promise.
Beside it, how often the 95 % interval of one mean and of one difference (`vs forest`) holds the truth.
"""
POWER = """
## A known effect

One method is better by the smallest difference that the design promises to show in 80 % of boards. Found: share of its
pairs that are separated. Then the difference is 0.7 of that, and as many replicates are bought as `needed` asks for.
`all intervals`: share of boards on which every interval of every pair holds the truth, at 95 %.
"""
CLAIM = """
## What one checkpoint does not show

The same tests, if differences between single checkpoints were read as differences between architectures whose
checkpoints vary as above: no promise, but why a board with one pre-training seed says "these checkpoints".
"""


def text(records, given, machine):
    facts = [
        (
            "command",
            f"`python -m torture.statistics --boards {given.boards} --effects {given.effects} --seed {given.seed}`",
        ),
        ("commit", machine["commit"]),
        ("machine", f"{machine['processor']}, {machine['cpus']} cores, Python {machine['python']}"),
        ("boards of each row", f"{given.boards}, with a known effect {given.effects}"),
        ("time", f"{sum(record['seconds'] for record in records) / 60:.0f} min of one core"),
    ]
    by = {what: [r for r in records if r["what"] == what] for what in {r["what"] for r in records}}
    false = [
        (*_of(r), *(f"{100 * r[name]:.1f} %" if name in r else "" for name in ("false", "mean", "difference")))
        for r in by["false_separations"]
    ]
    power = [
        (*_of(r), f"{r['detectable']:.2f}", f"{100 * r['power']:.1f} %", f"{100 * r['all']:.1f} %", *_asked(r))
        for r in by["powers"]
    ]
    claim = [(*_of(r), f"{100 * r['false']:.1f} %") for r in by["read_as_architectures"]]
    lines = [HEAD, *table(("", ""), facts), FALSE]
    lines += table(("design", "what varies", "methods", "false", "mean holds", "difference holds"), false)
    lines += [POWER, *table((*_POWER_HEAD, "bought", "power with them"), power)]
    lines += [CLAIM, *table(("design", "what varies", "methods", "boards with a difference"), claim)]
    lines += ["", "## What varies", "", *table(("", *_TRUTH_HEAD), [_truth(truth) for truth in _truths(records)])]
    return "\n".join([*lines, ""])


_POWER_HEAD = ("design", "what varies", "methods", "difference", "power (80 %)", "all intervals")
_TRUTH_HEAD = ("checkpoint", "split x method", "head seed", "single run", "split, all alike", "methods", "folds")


def _of(record):
    return record["layout"].name, record["truth"].name, record["methods"]


def _asked(record):
    if record["asked"] is None:
        return "no number will do", "-"
    return record["asked"], f"{100 * record['with_them']:.1f} %"


def _truths(records):
    return list(dict.fromkeys(record["truth"] for record in records))


def _truth(truth):
    widths = "alike" if not truth.widths else "times " + ", ".join(f"{w:g}" for w in dict.fromkeys(truth.widths))
    folds = f"correlated {truth.correlation:g}"
    if truth.training is not None:
        folds = f"of {simulated.MOLECULES} molecules, {truth.training:g} of the variance from training"
    return truth.name, truth.pretrain, truth.block, truth.head, truth.run, truth.common, widths, folds


def write(file, records, given, machine):
    with written_whole(file) as part:
        part.write_text(text(records, given, machine))
