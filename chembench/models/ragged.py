"""Real tokens of a padded batch, one after the other: layers that look at one token at a time then pass no padding.

Attention alone takes them padded. On a GPU the padding stays: how many tokens are real would have to be asked for, and
the host would wait for the answer.

Axes: B molecules, T tokens, S tokens of all molecules, D hidden units, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ragged:
    """Where the tokens of a batch stand."""

    size: int
    """Molecules B."""
    length: int
    """Tokens T of the longest."""
    real_S: Tensor | None
    """Places of the real tokens in the padded batch, row by row; none where all places are kept."""
    mask_B11T: Tensor | None
    """True at real tokens, for attention; none where all of them are real."""
    ids_S: Tensor
    positions_S: Tensor
    """Counted from 0 in each molecule."""

    @classmethod
    def of(cls, ids_BT: Tensor, mask_BT: Tensor | None) -> Ragged:
        """The tokens of a batch that is padded on the right, or not at all."""
        size, length = ids_BT.shape
        places = torch.arange(size * length, device=ids_BT.device)
        if mask_BT is None:
            return cls(size, length, None, None, ids_BT.reshape(-1), places % length)
        mask_B11T = mask_BT[:, None, None, :]
        if ids_BT.device.type != "cpu":
            return cls(size, length, None, mask_B11T, ids_BT.reshape(-1), places % length)
        real_S = places[mask_BT.reshape(-1)]
        return cls(size, length, real_S, mask_B11T, ids_BT.reshape(-1)[real_S], real_S % length)

    def firsts(self) -> Tensor:
        """Place in S of the first token of each molecule."""
        if self.real_S is None:
            return torch.arange(0, self.size * self.length, self.length, device=self.ids_S.device)
        return (self.positions_S == 0).nonzero()[:, 0]

    def lasts(self) -> Tensor:
        """Place in S of the last real token of each molecule."""
        firsts_B = self.firsts()
        if self.mask_B11T is None:
            return firsts_B + self.length - 1
        return firsts_B + self.mask_B11T.sum(-1).reshape(-1) - 1

    def heads(self, values_SD: Tensor, heads: int) -> Tensor:
        """Keys, values or queries of every token as attention takes them, shape (B, H, T, D / H); zero at padding."""
        if self.real_S is not None:
            values_SD = _padded(values_SD, self.real_S, self.size * self.length)
        return values_SD.view(self.size, self.length, heads, -1).transpose(1, 2)

    def joined(self, attended_BHTd: Tensor) -> Tensor:
        """What attention gave for every token, shape (S, D)."""
        joined = attended_BHTd.transpose(1, 2).reshape(self.size * self.length, -1)
        return joined if self.real_S is None else _picked(joined, self.real_S)


def _padded(rows: Tensor, places: Tensor, size: int) -> Tensor:
    return cast(Tensor, _Padded.apply(rows, places, size))  # type: ignore[no-untyped-call]


def _picked(rows: Tensor, places: Tensor) -> Tensor:
    return cast(Tensor, _Picked.apply(rows, places))  # type: ignore[no-untyped-call]


class _Padded(torch.autograd.Function):
    """Rows are put to different places, zeros between them; torch's own gradient of that is several times slower."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.places = places
        return rows.new_zeros(size, rows.shape[1]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.places), None, None


class _Picked(torch.autograd.Function):
    """Rows at different places; where `_Padded` put them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.places, ctx.size = places, len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows = gradients[0]
        return rows.new_zeros(ctx.size, rows.shape[1]).index_copy_(0, ctx.places, rows), None
