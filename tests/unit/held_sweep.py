"""A sweep on disk with everything that takes space, written event by event."""

from pathlib import Path

from chembench.paths import CachePaths, SweepPaths, write_json
from chembench.register import register
from chembench.specs import Cell, FinetuneSpec, ModelSpec, Outcome, PretrainSpec, TrialSpec
from chembench.sweep.ledger import Ledger, read_state
from chembench.sweep.state import SweepState

MODEL = ModelSpec(
    architecture="roberta", hidden=8, ffn=16, layers=1, heads=1, vocabulary=9, pad_id=1, bos_id=0, eos_id=2
)
CELL = Cell(architecture="roberta", size="w8x1", molecules=4)
INPUTS = {"tokenizer": "tok", "corpus": "corpus", "labels": "labels", "task t": "task", "split 0 of t": "split",
          "test of t": "seal"}  # fmt: skip


def pretraining(seed: int = 0) -> PretrainSpec:
    return PretrainSpec(
        model=MODEL, outputs=3, molecules=4, corpus="corpus", labels="labels", tokenizer="tok", learning_rate=1e-3,
        epochs=1, seed=seed,
    )  # fmt: skip


def trial(kind: str, pretrained: str | None, rate: float = 1e-3, head_seed: int = 0) -> TrialSpec:
    return TrialSpec(
        kind=kind, model=MODEL, pretrained=pretrained, descriptors=3, tokenizer="tok", task="t",
        task_kind="regression", targets=1, data="d", test_rows="r", sealed="seal" if kind == "confirm" else None,
        finetune=FinetuneSpec(learning_rate=rate), head_seed=head_seed,
    )  # fmt: skip


class HeldSweep:
    """Writes a ledger and what workers leave; each file holds as many bytes as it is told to."""

    def __init__(self, folder: Path, cache: CachePaths, name: str = "one") -> None:
        self.paths, self.cache = SweepPaths(folder / name), cache
        self.ledger = Ledger(self.paths)
        register(cache, self.paths)
        self._tell(event="sweep", name=name, space_digest="s", header={"inputs": INPUTS})

    @property
    def state(self) -> SweepState:
        return self.ledger.state

    def close(self) -> "HeldSweep":
        self.ledger.close()
        return self

    def read(self) -> SweepState:
        return read_state(self.paths)

    def _tell(self, **event) -> None:
        self.ledger.append(event)

    def pretrain(self, seed: int = 0, size: int | None = 1000, status: str = "finished") -> str:
        """A pre-training with its checkpoint; its uid."""
        spec = pretraining(seed)
        self.item(spec, {"pretrain_seed": seed})
        if size is not None:
            filled(self.cache.pretrained(spec.digest) / "weights", size)
        self.end(spec.digest, status)
        return spec.digest

    def confirm(
        self, unit: str, pretrained: str | None, objective: float, *, model: int | None = 100, others: str = "finished"
    ) -> str:
        """A unit with two replicates, the first with its fitted model; uid of the first."""
        rate = 1e-3 * (1 + len(self.state.confirms))
        specs = [trial("confirm", pretrained, rate, seed) for seed in (0, 1)]
        for seed, spec in enumerate(specs):
            places = {"pretrain_seed": 0, "split": 0, "head_seed": seed}
            self.item(spec, {"unit": unit, "task": "t", **places})
        self.end(specs[0].digest, "finished", objective, model=model)
        self.end(specs[1].digest, others, objective)
        return specs[0].digest

    def search(self, pretrained: str | None, status: str, rate: float = 0.5) -> str:
        spec = trial("search", pretrained, rate)
        self.item(spec, {"unit": "u", "task": "t", "study": "u", "ordinal": 0})
        self.end(spec.digest, status)
        return spec.digest

    def item(self, spec, labels: dict) -> None:
        self._tell(event="item", uid=spec.digest, spec=spec.canonical(), cell=CELL.canonical(), labels=labels)

    def end(self, uid: str, status: str, objective: float = 1.0, *, model: int | None = None, state: int | None = None):
        """Carry an item to ``status``: waiting, running, or an outcome, which leaves its records."""
        if status == "waiting":
            return
        attempt = self.state.items[uid].attempt + 1
        run = self.paths.run(uid, attempt)
        self._tell(event="started", uid=uid, attempt=attempt)
        filled(run.spec, 10)
        filled(run.curves, 10)
        for place, size in ((run.model / "weights", model), (run.resume, state)):
            if size is not None:
                filled(place, size)
        if status == "running":
            return
        outcome = Outcome(
            uid=uid, attempt=attempt, kind=self.state.items[uid].kind,
            status="failed" if status == "preempted" else status,
            cause="preempted" if status == "preempted" else None,
            metrics={"objective": objective} if status == "finished" else {},
        ).model_dump(mode="json")  # fmt: skip
        write_json(run.result, outcome)
        filled(run.predictions, 10)
        self._tell(event="result", uid=uid, again=status == "preempted", outcome=outcome)


def filled(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def inputs_in(cache: CachePaths, mark: str = "", size: int = 50) -> dict[str, Path]:
    """Prepared inputs as `INPUTS` names them, or others where ``mark`` is given."""
    places = {
        "corpora": cache.corpus(f"corpus{mark}"),
        "tokenizers": cache.tokenizer(f"tok{mark}"),
        "shards": cache.shard(f"shard{mark}"),
        "labels": cache.labels(f"labels{mark}"),
        "tasks": cache.task(f"task{mark}"),
        "splits": cache.split(f"split{mark}"),
        "sealed": cache.sealed(f"seal{mark}"),
    }
    for place in places.values():
        filled(place / "content", size)
    manifest = {"corpus": f"corpus{mark}", "tokenizer": f"tok{mark}"}
    write_json(places["shards"] / "manifest.json", manifest)
    return places


def visible(folder: Path) -> set[str]:
    """Files below a folder, parts left out."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
