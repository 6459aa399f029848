"""The peer of the benchmark: the paper's recipe as a plain transformers Trainer script.

Images are decoded and processed at each access, the whole model runs at each step, frozen layers
included. Nothing of beitmed's training code is used; its random weights and generated images are,
so that both sides do the same work.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from transformers import (
    BeitForImageClassification,
    BeitImageProcessorPil,
    Trainer,
    TrainingArguments,
    set_seed,
)


class Images(torch.utils.data.Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, processor: BeitImageProcessorPil):
        self.images, self.labels, self.processor = images, labels, processor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict:
        rgb = Image.fromarray(self.images[i]).convert("RGB")
        pixels = self.processor(rgb, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": int(self.labels[i])}


def freeze(model: BeitForImageClassification, unfreeze: int) -> None:
    """Train the top layers, pooler and classifier, as the paper does."""
    model.requires_grad_(False)
    layers = model.beit.layers
    for module in (*layers[len(layers) - unfreeze :], model.beit.pooler, model.classifier):
        module.requires_grad_(True)


def trainer(
    model: BeitForImageClassification,
    train: torch.utils.data.Dataset,
    val: torch.utils.data.Dataset | None,
    *,
    batch_size: int,
    epochs: int = 1,
    max_steps: int = -1,
    precision: str = "fp32",
    learning_rate: float = 3e-4,
) -> Trainer:
    """The paper's TrainingArguments; without `val` nothing is evaluated."""
    set_seed(42)
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            learning_rate=learning_rate,
            num_train_epochs=epochs,
            max_steps=max_steps,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=32,
            weight_decay=0.01,
            eval_strategy="no" if val is None else "epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            bf16=precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            seed=42,
        ),
        train_dataset=train,
        eval_dataset=val,
    )


def main() -> None:
    """One whole run of the overrides given; prints its seconds and peak memory as JSON.

    With --no-evaluation it ends after training: what it needs most memory for is then over.
    """
    from hydra import compose, initialize_config_dir

    from beitmed import config, data
    from beitmed.backbones import weights
    from beitmed.data import label_subset
    from beitmed.runs import resources

    overrides = [a for a in sys.argv[1:] if a != "--no-evaluation"]
    evaluated = overrides == sys.argv[1:]
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        cfg = config.resolve(compose("config", overrides=overrides))
    loaded = data.load(cfg)
    chosen = label_subset.choose(cfg, loaded).indices
    start = time.perf_counter()
    model, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    assert isinstance(cfg.unfreeze, int)
    freeze(model, cfg.unfreeze)
    splits = {k: Images(s.images, s.labels, processor) for k, s in loaded.splits.items()}
    train = torch.utils.data.Subset(splits["train"], chosen.tolist())
    t = cfg.train
    run = trainer(
        model, train, splits["val"] if evaluated else None,
        batch_size=t.batch_size, epochs=t.epochs, max_steps=t.max_steps or -1,
        precision=cfg.precision, learning_rate=t.learning_rate,
    )  # fmt: skip
    run.train()
    if evaluated:
        run.predict(splits["test"])
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "peak_memory_bytes": resources.peak_memory(),
            }
        )
    )


if __name__ == "__main__":
    main()
