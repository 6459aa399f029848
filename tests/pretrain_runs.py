"""Pre-trainings of seconds."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from beitmed import config
from beitmed.backbones import weights
from beitmed.config import PretrainRun

# A backbone of 4 x 4 patches.
TINY = tuple(
    f"backbone.geometry.{key}={value}"
    for key, value in {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": 32, "patch_size": 8,
    }.items()
)  # fmt: skip
FAST = (
    *TINY, "data.limit=8", "train.epochs=4", "train.batch_size=8", "train.warmup_steps=0",
    "pretrain.every=2", "data.allow_unofficial=true",
)  # fmt: skip
WORDS = ("objective=tokens", "objective.tokenizer=random", "objective.random.hidden_size=8",
         "objective.random.vocab_size=16")  # fmt: skip


def resolve(*overrides: str) -> PretrainRun:
    """The configuration that these overrides of `beitmed pretrain` give, its backbone completed."""
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        cfg = config.resolve(compose("pretrain", overrides=list(overrides)), PretrainRun)
    return cfg.model_copy(update={"backbone": weights.complete(cfg.backbone)})
