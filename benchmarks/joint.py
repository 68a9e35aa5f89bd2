"""Several small fine-tunings of equal shape together on one device, against one after the other, at the same digits.

A step of a small model is a few hundred launches of a GPU and little arithmetic, so that K of them may cost what one
costs. Here K models, each with a learning rate of its own, are trained as one by `torch.func`: their weights lie in
stacked tensors, gradients come from one vectorised call. Sweeps do not do this: on a CPU, which launches nothing, it is
6 to 11 % slower. Axes: K models, B molecules, T tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from chembench.models.base import PretrainingModel, build_pretraining_model
from chembench.specs import ModelSpec

BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 0.01
TOLERANCE = 1e-3
"""Largest difference of a loss after all steps, relative to it: sums of another order, carried on by the optimiser."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is trained."""

    models: int
    batch_size: int
    tokens: int
    steps: int
    first: int
    """Steps before the clock starts."""


FULL = Effort(models=32, batch_size=32, tokens=36, steps=60, first=20)
QUICK = Effort(models=3, batch_size=4, tokens=8, steps=4, first=1)


@dataclass(slots=True)
class AdamW:
    """As torch's own, element by element, on stacked weights: each model has its learning rate."""

    weights: dict[str, Tensor]
    rates_K: Tensor
    step: int = 0
    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def follow(self, gradients: dict[str, Tensor]) -> None:
        self.step += 1
        for name, gradient in gradients.items():
            weight = self.weights[name]
            zeros = (torch.zeros_like(weight), torch.zeros_like(weight))
            first, second = self.moments.setdefault(name, zeros)
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            rate = self.rates_K.view(-1, *[1] * (weight.dim() - 1))
            spread = (second / (1 - BETAS[1] ** self.step)).sqrt_().add_(EPSILON)
            weight.mul_(1 - rate * DECAY).sub_(rate / (1 - BETAS[0] ** self.step) * first / spread)


def models_of(spec: ModelSpec, effort: Effort, device: torch.device) -> list[PretrainingModel]:
    """Models of different weights without dropout, which would draw other numbers together than alone."""
    return [build_pretraining_model(spec, 1, seed, dropout=0.0).to(device) for seed in range(effort.models)]


def batches(spec: ModelSpec, effort: Effort, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (steps, B, T) and labels (steps, B, 1); the models see the same molecules."""
    generator = torch.Generator().manual_seed(0)
    shape = (effort.steps, effort.batch_size, effort.tokens)
    ids = torch.randint(4, spec.vocabulary, shape, generator=generator)
    ids[..., 0], ids[..., -1] = spec.bos_id, spec.eos_id
    return ids.to(device), torch.randn((*shape[:2], 1), generator=generator).to(device)


def rates(effort: Effort) -> list[float]:
    """From 1e-3 to nearly 2e-3."""
    return [1e-3 * (1 + number / effort.models) for number in range(effort.models)]


def in_turn(spec: ModelSpec, effort: Effort, device: torch.device, clock: Callable[[], float]) -> tuple[float, Tensor]:
    """Seconds of a step of all models one after the other, and their last losses."""
    ids, labels = batches(spec, effort, device)
    seconds, losses = 0.0, []
    for model, rate in zip(models_of(spec, effort, device), rates(effort), strict=True):
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=rate, betas=BETAS, eps=EPSILON, weight_decay=DECAY, fused=True
        )
        began, loss = clock(), torch.zeros(())
        for step in range(effort.steps):
            if step == effort.first:
                began = clock()
            loss = nn.functional.mse_loss(model(ids[step], None), labels[step])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seconds += clock() - began
        losses.append(loss.detach())
    return seconds / (effort.steps - effort.first), torch.stack(losses)


def together(spec: ModelSpec, effort: Effort, device: torch.device, clock: Callable[[], float]) -> tuple[float, Tensor]:
    """The same of all models as one."""
    ids, labels = batches(spec, effort, device)
    models = models_of(spec, effort, device)
    weights, buffers = stack_module_state(models)
    weights = {name: weight.detach() for name, weight in weights.items()}
    blank, optimiser = models[0], AdamW(weights, torch.tensor(rates(effort), device=device))

    def loss_of(
        own: dict[str, Tensor], kept: dict[str, Tensor], ids_BT: Tensor, labels_B1: Tensor
    ) -> tuple[Tensor, Tensor]:
        loss = nn.functional.mse_loss(functional_call(blank, (own, kept), (ids_BT, None)), labels_B1)
        return loss, loss

    step_of = vmap(grad(loss_of, has_aux=True), in_dims=(0, 0, None, None))
    began, losses_K = clock(), torch.zeros(effort.models)
    for step in range(effort.steps):
        if step == effort.first:
            began = clock()
        gradients, losses_K = step_of(weights, buffers, ids[step], labels[step])
        optimiser.follow(gradients)
    return (clock() - began) / (effort.steps - effort.first), losses_K.detach()


def compared(spec: ModelSpec, effort: Effort, device: torch.device, clock: Callable[[], float]) -> str:
    """One line: how long a step of K models takes either way; the program ends if their losses differ."""
    alone, own_K = in_turn(spec, effort, device, clock)
    joint, joint_K = together(spec, effort, device, clock)
    apart = float(((joint_K - own_K).abs() / own_K.abs()).max())
    if not apart <= TOLERANCE:
        sys.exit(f"losses after {effort.steps} equal steps must agree to {TOLERANCE:g}, they are {apart:.1e} apart")
    return (
        f"{effort.models} fine-tunings of {spec.architecture} {spec.hidden} x {spec.layers}, "
        f"{effort.batch_size} molecules in a step of each: "
        f"{alone * 1e3:.1f} ms one after the other, {joint * 1e3:.1f} ms together, "
        f"{alone / joint:.2f} times as fast; losses {apart:.0e} apart after {effort.steps} steps."
    )
