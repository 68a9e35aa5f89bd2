"""LoRA: low-rank updates of every linear layer of a frozen backbone, by PEFT."""

from __future__ import annotations

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners import lora as lora_layers
from torch import Tensor, nn

from chembench.models.base import PretrainingModel, seeded, set_dropout
from chembench.models.heads import FinetuneModel, hidden_layer_head, require_same_model
from chembench.specs import TrialSpec

ADAPTER = "default"


class LoraModel(FinetuneModel):
    """A `FinetuneModel` whose backbone carries LoRA layers; it saves merged weights under the names of ``full``."""

    def state_for_saving(self) -> dict[str, Tensor]:
        updates = {
            f"{name}.weight": module.get_delta_weight(ADAPTER).detach().cpu()
            for name, module in self.named_modules()
            if isinstance(module, lora_layers.Linear)
        }
        merged = {}
        for name, tensor in super().state_for_saving().items():
            if ".lora_" in name:
                continue
            plain = name.replace(".base_layer.", ".")
            merged[plain] = tensor + updates[plain] if plain in updates else tensor
        return merged


def lora(model: PretrainingModel, trial: TrialSpec) -> FinetuneModel:
    """Low-rank updates of all attention and feed-forward layers are trained, and the head of `full`.

    Args:
        model: the pre-trained model; it is taken over and changed, load it anew for the next trial.
        trial: gives rank, alpha, dropout (of the backbone and in the head), targets and the seed of updates and head.

    Raises:
        ConfigError: if ``model`` is not what the trial asks for.
    """
    require_same_model(model, trial)
    recipe = trial.finetune
    set_dropout(model, recipe.dropout)
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # declared int, used as a float
        target_modules=list(model.backbone.lora_targets),
    )
    with seeded(trial.head_seed):
        head = hidden_layer_head(model.backbone.hidden, trial)
        inject_adapter_in_model(config, model.backbone, ADAPTER)
    return LoraModel(model.backbone, nn.Identity(), head, frozen=False)
