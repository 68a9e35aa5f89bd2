"""``reports/torture.md``: what was killed, and what came of it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One tortured sweep: space, seed, kills by kind, starts, seconds, violations."""

HEAD = """# Torture

A sweep is killed - its driver, workers, whole nodes, the process that sends to MLflow, at random moments and in the
middle of writes - and the same command is given again until it is finished. Then it must equal an undisturbed sweep
(items, scores, predictions, choices, boards; what is measured is left out), with nothing twice, nothing still running
and nothing carried out again that was finished. `tests/torture/` is the code; the moments follow from the seeds.
"""


def text(records: Sequence[Record], command: str, machine: dict[str, Any]) -> str:
    """The report as Markdown."""
    kinds: Counter[str] = Counter()
    for record in records:
        kinds.update(record["kills"])
    facts = {
        "command": f"`{command}`",
        "commit": machine["commit"],
        "machine": f"{machine['processor']}, {machine['cpus']} cores, Python {machine['python']}",
        "kills": sum(kinds.values()),
        "sweeps": len(records),
        "starts of the command": sum(record["starts"] for record in records),
        "items": sum(record["items"] for record in records),
        "violations": sum(len(record["violations"]) for record in records),
        "items that an orphaned worker finished as well": sum(record["finished_again"] for record in records),
        "parts of files and folders that killed processes left, until `chembench gc`": sum(r["parts"] for r in records),
        "time": f"{sum(record['seconds'] for record in records) / 60:.0f} min",
    }
    lines = [HEAD, *table(("", ""), facts.items()), "", *table(("what was killed", "kills"), sorted(kinds.items()))]
    rows = [
        (r["space"], r["seed"], sum(r["kills"].values()), r["starts"], len(r["violations"]), f"{r['seconds']:.0f}")
        for r in records
    ]
    lines += ["", *table(("space", "seed", "kills", "starts", "violations", "seconds"), rows)]
    return "\n".join([*lines, ""])


def write(file: Path, records: Sequence[Record], command: str) -> None:
    from chembench.header import environment_now
    from chembench.paths import written_whole

    with written_whole(file) as part:
        part.write_text(text(records, command, environment_now()))


def table(head: Sequence[str], rows) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
