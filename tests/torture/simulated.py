"""Boards with a known truth: checkpoints, head seeds, splits and overlapping folds, each with its own variance."""

from dataclasses import dataclass, field

import numpy as np

from chembench.statistics.estimates import Key
from chembench.statistics.power import Design
from chembench.statistics.replicates import Method, Table, in_order


@dataclass(frozen=True)
class Layout:
    """Replicates of every method."""

    pretrain_seeds: int = 1
    splits: int = 1
    head_seeds: int = 1
    outer: int = 1

    @property
    def blocks(self):
        return max(self.splits, self.outer)

    @property
    def name(self):
        plain = f"{self.pretrain_seeds} x {self.splits} x {self.head_seeds}"
        return plain if self.outer == 1 else f"{plain}, {self.outer} outer"


@dataclass(frozen=True)
class Truth:
    """Standard deviations, in the metric's unit."""

    name: str
    pretrain: float = 0.7
    head: float = 0.5
    block: float = 0.7
    """What one method gains or loses on one split or outer test set."""
    run: float = 0.7
    common: float = 1.5
    """What all methods have in common on a split."""
    correlation: float = 0.2
    """Between outer folds of one method, from training sets that overlap: n_test / (n_test + n_train) of five folds."""
    training: float | None = None
    """If given, outer folds are of molecules: this share of their variance comes from the training molecules."""
    widths: tuple = field(default=())
    """How much more each method varies, repeated over the methods."""


EVEN = Truth("all axes vary")
FOLDS = Truth("blocks alone vary", pretrain=0, head=0, block=1, run=0)
RUNS = Truth("single runs alone vary", pretrain=0, head=0, block=0, run=1)
CHECKPOINTS = Truth("checkpoints vary most", pretrain=1.5, head=0.3, block=0.3, run=0.3)
DOUBLE = Truth("unequal, up to twice", widths=(1, 1.25, 1.5, 1.75, 2))
ONE_WIDE = Truth("one method varies three times as much", widths=(3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
TESTED = Truth("folds of molecules, test part alone", training=0.0)
TRAINED = Truth("folds of molecules, a tenth from training", training=0.1)

LAYOUTS = (
    Layout(3, 1, 3),
    Layout(1, 1, 5),
    Layout(1, 5, 3),
    Layout(3, 1, 1, outer=5),
    Layout(1, 1, 1, outer=25),
    Layout(3, 1, 1, outer=25),
)
MOLECULES = 200


def scores_of(random, layout, truth, methods, means):
    """Scores of one board, shape (methods, pre-training seeds, head seeds, blocks).

    An axis with one level is part of the truth: with one checkpoint, the claim is of that checkpoint.
    """
    p, h, b = layout.pretrain_seeds, layout.head_seeds, layout.blocks
    width_M = np.resize(np.array(truth.widths or (1.0,)), methods)[:, None]
    pretrain_MP, head_MH = (
        width_M * _levels(random, sd, methods, n) for sd, n in ((truth.pretrain, p), (truth.head, h))
    )
    block_MB = width_M * truth.block * _blocks(random, layout, truth, methods)
    run_MPHB = width_M[:, :, None, None] * truth.run * random.standard_normal((methods, p, h, b))
    common_B = truth.common * random.standard_normal(b) * (b > 1)
    own_MPHB = np.asarray(means, dtype=float)[:, None, None, None] + pretrain_MP[:, :, None, None]
    return own_MPHB + head_MH[:, None, :, None] + (block_MB + common_B)[:, None, None, :] + run_MPHB


def names_of(methods):
    return [f"m{m:02d}" for m in range(methods)]


def keyed(scores_MPHB, layout):
    """The same as `compare` takes it."""
    _, p, h, b = scores_MPHB.shape
    is_outer = layout.outer > 1
    keys = [Key(i, 0 if is_outer else k, j, k if is_outer else 0) for i in range(p) for j in range(h) for k in range(b)]
    return {
        name: dict(zip(keys, scores_PHB.ravel().tolist(), strict=True))
        for name, scores_PHB in zip(names_of(len(scores_MPHB)), scores_MPHB, strict=True)
    }


def table_of(scores_MPHB, layout):
    """The table that `compare` makes of it, without the way through keys."""
    methods = [
        Method(name, scores_PHB, float(scores_PHB.mean()), False)
        for name, scores_PHB in zip(names_of(len(scores_MPHB)), scores_MPHB, strict=True)
    ]
    blocks = tuple(range(layout.blocks))
    return Table("lower", in_order(methods, "lower"), blocks, "outer" if layout.outer > 1 else "split", 1, ())


def _levels(random, sd, methods, n):
    return sd * random.standard_normal((methods, n)) if n > 1 else np.zeros((methods, 1))


def _blocks(random, layout, truth, methods):
    """What methods gain or lose in each block, variance 1."""
    b = layout.blocks
    if b == 1:
        return np.zeros((methods, 1))
    if layout.outer == 1:
        return random.standard_normal((methods, b))
    if truth.training is None:
        shared = random.standard_normal((methods, 1))
        return np.sqrt(truth.correlation) * shared + np.sqrt(1 - truth.correlation) * random.standard_normal(
            (methods, b)
        )
    return _folds(random, b // 5, truth.training, methods)


def _folds(random, repeats, share, methods):
    """Repeated five-fold cross-validation of molecules, each hard, and teaching, for each method by itself."""
    hard_MN, taught_MN = random.standard_normal((2, methods, MOLECULES))
    test = MOLECULES // 5
    columns = []
    for _ in range(repeats):
        for held in random.permutation(MOLECULES).reshape(5, test):
            tested = hard_MN[:, held].sum(1) / np.sqrt(test)
            trained = (taught_MN.sum(1) - taught_MN[:, held].sum(1)) / np.sqrt(MOLECULES - test)
            columns.append(np.sqrt(1 - share) * tested + np.sqrt(share) * trained)
    return np.array(columns).T


def design(layout, truth, methods):
    """The same board for `chembench.statistics.power`."""
    is_outer = layout.outer > 1
    return Design(
        methods=methods,
        pretrain_seeds=layout.pretrain_seeds,
        head_seeds=layout.head_seeds,
        blocks=layout.blocks,
        pretrain_seed=truth.pretrain**2,
        head_seed=truth.head**2,
        block=truth.block**2 * ((1 - truth.correlation) if is_outer else 1.0),
        run=truth.run**2,
        overlap=truth.correlation / (1 - truth.correlation) if is_outer else 0.0,
    )
