"""FLAVA's image and text encoders with their projections, without what no contrast reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class FlavaPair(nn.Module):
    """Images and sentences to one space, by the parts of a `FlavaModel` and under their names.

    The multimodal encoder, its projections and both poolers are left out: the contrastive loss
    does not train them. Both projections take the class token after the last norm.

    Args:
        config: fields of transformers' `FlavaConfig`; weights are drawn from torch's own stream.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from transformers import FlavaConfig, FlavaModel

        super().__init__()
        model = FlavaModel(FlavaConfig.from_dict(dict(config)))
        self.config = model.config
        self.image_model, self.text_model = model.image_model, model.text_model
        self.image_model.pooler = self.text_model.pooler = None
        self.image_projection = model.image_projection
        self.text_projection = model.text_projection
        self.logit_scale = model.logit_scale

    def encode_image(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embeddings, not of unit length."""
        return self.image_projection(self.image_model(x, return_dict=True)[0][:, 0])

    def encode_text(self, ids: Int64[Tensor, "b length"]) -> Float[Tensor, "b d"]:
        """Embeddings, not of unit length; padding changes nothing."""
        return encode_text(self.text_model, self.text_projection, ids)

    def forward(
        self, x: Float[Tensor, "b 3 h w"], ids: Int64[Tensor, "b length"]
    ) -> dict[str, Tensor]:
        """What open_clip's ``CLIP`` gives: unit embeddings and the scale of their products."""
        return {
            "image_features": F.normalize(self.encode_image(x), dim=-1),
            "text_features": F.normalize(self.encode_text(ids), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


def encode_text(
    text_model: Any, projection: nn.Module, ids: Int64[Tensor, "b length"]
) -> Float[Tensor, "b d"]:
    """The projected class token of sentences, which is their first."""
    mask = (ids != text_model.config.pad_token_id).long()
    hidden = text_model(input_ids=ids, attention_mask=mask, return_dict=True)[0]
    return projection(hidden[:, 0])
