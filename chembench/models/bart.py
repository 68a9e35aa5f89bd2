"""BART: encoder and decoder read the same molecule; the decoder's state at the last ``</s>`` stands for it."""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor
from transformers import BartConfig, BartModel
from transformers.models.bart.modeling_bart import BartDecoder, BartDecoderLayer, BartEncoder, BartEncoderLayer

from chembench.errors import DataError
from chembench.models.base import Backbone
from chembench.specs import ModelSpec


class Bart(Backbone):
    """Hugging Face's ``BartModel``; the decoder reads the ids moved one place to the right, after ``</s>``."""

    lora_targets = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

    def __init__(self, spec: ModelSpec, model: BartModel) -> None:
        super().__init__(spec)
        self.model = model

    @classmethod
    def build(cls, spec: ModelSpec, dropout: float, attention_dropout: float) -> Self:
        config = BartConfig(
            vocab_size=spec.vocabulary,
            d_model=spec.hidden,
            encoder_ffn_dim=spec.ffn,
            decoder_ffn_dim=spec.ffn,
            encoder_layers=spec.layers,
            decoder_layers=spec.decoder_layers,
            encoder_attention_heads=spec.heads,
            decoder_attention_heads=spec.heads,
            max_position_embeddings=spec.max_length,
            dropout=dropout,
            attention_dropout=attention_dropout,
            pad_token_id=spec.pad_id,
            bos_token_id=spec.bos_id,
            eos_token_id=spec.eos_id,
            decoder_start_token_id=spec.eos_id,
            forced_eos_token_id=None,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
        return cls(spec, BartModel(config))

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        # The decoder needs no mask: with padding on the right, no real token looks at one that is not.
        return cast(Tensor, self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state)

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Place of the last ``</s>``.

        Raises:
            DataError: if a sequence has none.
        """
        is_end_BT = (ids_BT == self.spec.eos_id) & mask_BT
        if not bool(is_end_BT.any(1).all()):
            row = int((~is_end_BT.any(1)).nonzero()[0])
            raise DataError(
                f"bart pools at the last </s> (id {self.spec.eos_id}), sequence {row} of the batch has none; "
                "encode with the end token kept, or use pooling = 'mean'"
            )
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        return torch.where(is_end_BT, places_T, 0).amax(1)

    def set_dropout(self, probability: float) -> None:
        for module in self.model.modules():
            if isinstance(module, BartEncoder | BartDecoder | BartEncoderLayer | BartDecoderLayer):
                module.dropout = probability
