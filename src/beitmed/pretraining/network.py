"""A network that learns from masked images: any family's trunk, a mask token, and a small head.

A patch is masked where its embedding would be: it is replaced by the mask token before positions
are added, in every family alike. Of what comes out only the masked patches pass through the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from beitmed.backbones import families
from beitmed.config.pretrain import HybridObjective, Objective, TokensObjective
from beitmed.pretraining.tokenizer import Tokenizer
from beitmed.pretraining.views import Pixels
from beitmed.ranks import together

_MASK_TOKEN = "mask_token"


class MaskedNetwork(nn.Module):
    """A classifier of transformers, of which all but the classification is pre-trained.

    pixels: how stored images become pixel values. vocabulary: of visual words, None without them.
    seed: what the head, and a mask token that the model has none of, are drawn from.
    """

    def __init__(
        self, model: Any, objective: Objective, pixels: Pixels, vocabulary: int | None, seed: int
    ) -> None:
        super().__init__()
        self.model, self.objective, self.pixels = model, objective, pixels
        self.family = families.of(model.config)
        self.patch = families.side(model.config.patch_size)
        self.side = pixels.size // self.patch
        self._tokenizer: tuple[Tokenizer, ...] = ()  # a tuple hides it: it is no part of this
        hidden = model.config.hidden_size
        [(self._patches, embedding)] = [
            (name, m) for name, m in model.named_modules() if name.endswith(".patch_embeddings")
        ]
        embedding.register_forward_hook(self._mask)
        self._masks: torch.Tensor | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs = vocabulary or 3 * self.patch**2
            self.head = _linear(hidden, outputs)
            if self._own_mask_token is None:
                self.register_parameter(_MASK_TOKEN, nn.Parameter(torch.empty(1, 1, hidden)))
                nn.init.trunc_normal_(self.get_parameter(_MASK_TOKEN), std=0.02)
            # BEiT's own norm before its head; elsewhere the model's last norm does it.
            own = not self.family.norm_first or model.config.model_type == "beit"
            eps = getattr(model.config, "layer_norm_eps", 1e-6)
            self.layernorm = nn.LayerNorm(hidden, eps=eps) if own else nn.Identity()
            if isinstance(objective, HybridObjective) and objective.weight > 0:
                size = self.family.pooled_size(model.config)
                self.projector = nn.Sequential(
                    _linear(size, size), nn.GELU(), _linear(size, objective.projection)
                )
        for name, parameter in self.of_the_classification():
            parameter.requires_grad_(False)
            assert not name.startswith(self.family.layers), name

    def of_the_classification(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters of the model that no pre-training reaches."""
        starts: tuple[str, ...] = ("classifier.",)
        if not self.family.norm_first:
            starts = (*starts, f"{self.family.norm}.")
        return [(n, p) for n, p in self.model.named_parameters() if n.startswith(starts)]

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = (tokenizer,)

    def train(self, mode: bool = True) -> MaskedNetwork:
        super().train(mode)
        for name, module in self.model.named_modules():
            if name.endswith("rope_embeddings"):  # in train mode its coordinates are random
                module.eval()
        return self

    @property
    def embeddings(self) -> str:
        """The path of the module that embeds patches and holds the mask token."""
        return self._patches.rpartition(".")[0]

    @property
    def _own_mask_token(self) -> nn.Parameter | None:
        return getattr(self.model.get_submodule(self.embeddings), _MASK_TOKEN, None)

    @property
    def token(self) -> nn.Parameter:
        """What stands for a masked patch: the model's own mask token, or one made for it."""
        own = self._own_mask_token
        return self.get_parameter(_MASK_TOKEN) if own is None else own

    @property
    def sums(self) -> bool:
        """Whether a batch's loss is the mean of its images' own: a contrast compares them."""
        return not hasattr(self, "projector")

    @property
    def numbers(self) -> int:
        """How many numbers a layer passes on for an image."""
        config = self.model.config
        return (self.family.prefix(config) + self.side**2) * config.hidden_size

    def _mask(self, module: nn.Module, inputs: Any, found: Any) -> Any:
        if self._masks is None:
            return None
        if isinstance(found, tuple):
            return (self._masked(found[0]), *found[1:])
        if found.ndim == 4:  # a convolution: [n, hidden, side, side]
            flat = self._masked(found.flatten(2).transpose(1, 2))
            return flat.transpose(1, 2).reshape(found.shape)
        return self._masked(found)

    def _masked(self, patches: torch.Tensor) -> torch.Tensor:
        assert self._masks is not None
        token = self.token.view(1, 1, -1).to(patches.dtype)
        return torch.where(self._masks.unsqueeze(-1), token, patches)

    def encode(self, pixels: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
        """Pixel values [n, 3, h, w], masks bool [n, patches] -> tokens behind the last layer."""
        self._masks = masks
        try:
            tokens = self.family.embed(self.model, pixels)
        finally:
            self._masks = None
        shared = self.family.shared(self.model)
        side = families.side(self.model.config.image_size)
        for layer in self.family.layer_list(self.model):
            tokens = self.family.layer(layer, tokens, shared, side)
        return tokens

    def forward(
        self,
        images: torch.Tensor,
        masks: torch.Tensor,
        codes: torch.Tensor | None = None,
        view: Mapping[str, torch.Tensor] | None = None,
        other: Mapping[str, torch.Tensor] | None = None,
        counted: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Stored images uint8 [n, 1 or 3, h, w] -> the loss, and its parts by name.

        masks: bool [n, patches]. codes: int64 [n, patches], the visual words, where they are known.
        view, other: what of each image is seen, and the second view of a contrast. counted: in one
        of several ranks how many of the images count; the contrast is that of all ranks' images.
        """
        pixels = self.pixels(images, view)
        tokens = self.encode(pixels, masks)
        patches = tokens[:, self.family.prefix(self.model.config) :][masks]
        if isinstance(self.objective, TokensObjective):
            if codes is None:
                codes = self.codes(images, view)
            return self._of_words(self._predicted(patches), codes[masks])
        loss = self._of_pixels(self._predicted(patches), self.patches_of(pixels)[masks])
        if other is None or not isinstance(self.objective, HybridObjective):
            return {"loss": loss}
        contrast = self._contrast(tokens, self.encode(self.pixels(images, other)), counted)
        weight = self.objective.weight
        return {"loss": loss + weight * contrast, "regression": loss, "contrast": contrast}

    def _predicted(self, patches: torch.Tensor) -> torch.Tensor:
        if self.family.norm_first:
            patches = self.model.get_submodule(self.family.norm)(patches)
        return self.head(self.layernorm(patches))

    def predict(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """What the head says of every masked patch, [masked, outputs], of whole images."""
        tokens = self.encode(self.pixels(images), masks)
        return self._predicted(tokens[:, self.family.prefix(self.model.config) :][masks])

    def codes(
        self, images: torch.Tensor, view: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Visual words of stored images, int64 [n, patches]."""
        [tokenizer] = self._tokenizer
        return tokenizer.codes(self.pixels.levels(images, view, tokenizer.px))

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, pooled] of whole, unmasked images, as a linear probe reads them."""
        return self.family.pool(self.model, self.encode(self.pixels(images)))

    def patches_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixel values [n, 3, h, w] -> those of each patch, [n, patches, 3 * patch ** 2]."""
        n, channels = pixels.shape[:2]
        grid = pixels.reshape(n, channels, self.side, self.patch, self.side, self.patch)
        return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def _of_words(self, scores: torch.Tensor, words: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = scores.float()
        right = (scores.argmax(1) == words).float().mean()
        return {"loss": cross_entropy(scores, words), "code_accuracy": right}

    def _of_pixels(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        predicted = predicted.float()
        if self.objective.target == "simmim":  # type: ignore[union-attr]
            return (predicted - target).abs().mean()
        return ((predicted - standardised(target)[0]) ** 2).mean()

    def _contrast(self, one: torch.Tensor, two: torch.Tensor, counted: int | None) -> torch.Tensor:
        """InfoNCE: which of a batch's second views is of the same image, and the other way round.

        Source: A. van den Oord et al. 2018, arXiv:1807.03748.
        """
        assert isinstance(self.objective, HybridObjective)
        a, b = (
            normalize(self.projector(self.family.pool(self.model, tokens)).float(), dim=1)
            for tokens in (one, two)
        )
        if counted is not None:
            nothing = 0 * (a.sum() + b.sum())  # a gradient, though none of the images may count
            a, b = (together.with_others(x[:counted]) + nothing for x in (a, b))
        scores = a @ b.T / self.objective.temperature
        same = torch.arange(len(scores), device=scores.device)
        return (cross_entropy(scores, same) + cross_entropy(scores.T, same)) / 2


def standardised(
    patches: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each patch by its own mean and deviation, and those: MAE's targets."""
    mean = patches.mean(-1, keepdim=True)
    deviation = (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    return (patches - mean) / deviation, mean, deviation


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def grid_of(pixels: Pixels, model: Any) -> int:
    """Patches along a side."""
    return math.floor(pixels.size / families.side(model.config.patch_size))
