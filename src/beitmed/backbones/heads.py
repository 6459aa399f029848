"""Classifiers for the families that transformers has no ForImageClassification for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    DINOv3ViTModel,
    DINOv3ViTPreTrainedModel,
    ViTMAEModel,
    ViTMAEPreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput


class ViTMAEForImageClassification(ViTMAEPreTrainedModel):
    """MAE's encoder on whole images, as its authors fine-tune it: nothing is masked; the mean of
    the patch tokens, a LayerNorm of its own, a linear layer.

    Source: K. He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022;
    models_vit.py of its repository with global_pool.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        config.mask_ratio = 0.0
        self.num_labels = config.num_labels
        body: Any = ViTMAEModel(config)
        body.layernorm = nn.Identity()  # fc_norm takes its place
        self.vit = body
        self.fc_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # The embeddings always sort patches by random numbers, to drop the last ones: by numbers
        # that ascend every patch stays, and in its place.
        patches = self.vit.embeddings.patch_embeddings.num_patches
        order = torch.arange(patches, device=pixel_values.device).expand(pixel_values.shape[0], -1)
        return self.vit.embeddings(pixel_values, noise=order)[0]

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        tokens = self.embed(pixel_values)
        for layer in self.vit.layers:
            tokens = layer(tokens)
        logits = self.classifier(self.fc_norm(tokens[:, 1:].mean(1)))
        return _output(self, logits, labels)


class DINOv3ViTForImageClassification(DINOv3ViTPreTrainedModel):
    """A linear layer on the normalised CLS token beside the mean of the normalised patch tokens.

    That is DINOv2's classifier in transformers, and what the model card of DINOv3 proposes.
    """

    base_model_prefix = "dinov3_vit"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.dinov3_vit: Any = DINOv3ViTModel(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        tokens = self.dinov3_vit(pixel_values).last_hidden_state
        patches = tokens[:, 1 + self.config.num_register_tokens :].mean(1)
        return _output(self, self.classifier(torch.cat([tokens[:, 0], patches], dim=1)), labels)


def _output(model: Any, logits: torch.Tensor, labels: torch.Tensor | None) -> ImageClassifierOutput:
    loss = None if labels is None else model.loss_function(labels, logits, model.config)
    return ImageClassifierOutput(loss=loss, logits=logits)
