"""Controls that every board shows: they say what is reached without a language model."""

from __future__ import annotations

from chembench.baselines.base import BaselineFit

__all__ = ["BaselineFit"]
