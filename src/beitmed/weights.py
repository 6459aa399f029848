"""Where a BEiT comes from: a hub name, a local folder, or random numbers where asked for by name.

No file is unpickled: transformers reads safetensors, or PyTorch files as plain tensors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoImageProcessor,
    BaseImageProcessor,
    BeitConfig,
    BeitForImageClassification,
    BeitImageProcessorPil,
)

from beitmed import hub
from beitmed.config import BackboneConfig
from beitmed.errors import UserError

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # PIL's numbers, as in preprocessor_config.json


def load(
    backbone: BackboneConfig, class_names: tuple[str, ...], seed: int
) -> tuple[BeitForImageClassification, BaseImageProcessor]:
    """Build a classifier and its image processor.

    All but pooler and classifier come from the checkpoint, or from `random.init_seed`: the same
    for every `seed`, which draws the classifier only. Raises UserError where the weights are
    missing, damaged, or of another architecture or size than the backbone's YAML says.
    """
    model, processor = (
        _random(backbone) if backbone.random_weights else _pretrained(backbone, len(class_names))
    )
    new_head(model, class_names, seed)
    return model, processor


def identity(backbone: BackboneConfig) -> dict[str, Any]:
    """What decides every number of the trunk and the pixels, found without loading a model.

    Digests of a checkpoint's files, or the settings that random weights are drawn from.
    """
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if backbone.random_weights:
        geometry, settings = backbone.geometry.model_dump(), backbone.random.model_dump()
        return {"geometry": geometry, "random": settings, **versions}
    folder = locate(backbone)
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin"):
            with path.open("rb") as f:
                digests[path.name] = hashlib.file_digest(f, "sha256").hexdigest()
    return {"files": digests, "transformers": versions["transformers"]}


def new_head(model: Any, class_names: tuple[str, ...], seed: int) -> None:
    """Start pooler and classifier anew from `seed`, and name the classes."""
    # Always drawn anew, after everything else and from a state of its own, so that it depends on
    # the seed alone and not on how many numbers loading has drawn.
    config = model.config
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: i for i, name in enumerate(class_names)}
    model.num_labels = config.num_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        torch.nn.init.trunc_normal_(model.classifier.weight, std=config.initializer_range)
        torch.nn.init.zeros_(model.classifier.bias)
        norm = model.beit.pooler.layernorm
        if norm is not None:
            norm.reset_parameters()


def _random(backbone: BackboneConfig) -> tuple[BeitForImageClassification, BaseImageProcessor]:
    settings = backbone.random
    config = BeitConfig(
        **backbone.geometry.model_dump(),
        layer_scale_init_value=settings.layer_scale_init_value,
        drop_path_rate=settings.drop_path_rate,
        use_shared_relative_position_bias=True,
        use_mask_token=True,
        use_mean_pooling=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.init_seed)
        model: Any = BeitForImageClassification(config)
        # transformers starts these at zero; a pre-trained trunk has learnt them, and at zero
        # nobody would see that a bias was forgotten.
        for p in (
            model.beit.shared_position_bias.relative_position_bias_table,
            model.beit.embeddings.cls_token,
        ):
            torch.nn.init.trunc_normal_(p, std=config.initializer_range)
    size = backbone.geometry.image_size
    processor = BeitImageProcessorPil(
        size={"height": size, "width": size},
        resample=_RESAMPLE[settings.resample],
        image_mean=settings.image_mean,
        image_std=settings.image_std,
    )
    return model, processor


def _pretrained(
    backbone: BackboneConfig, num_labels: int
) -> tuple[BeitForImageClassification, BaseImageProcessor]:
    folder = locate(backbone)
    # Its table of what is missing or left over reads as trouble; `_check_report` judges the same.
    transformers.logging.set_verbosity_error()
    try:
        config = _config(backbone, folder)
        config.num_labels = num_labels
        # "pil" is the processor that the paper used; the torchvision one rounds otherwise.
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        loaded: Any = BeitForImageClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # the old classifier, if any; the report is checked
            output_loading_info=True,
        )
    except UserError:
        raise
    except Exception as e:  # transformers, safetensors and torch each raise their own kinds
        first = next((line for line in str(e).splitlines() if line.strip()), "")
        raise UserError(
            f"backbone.weights: {folder} cannot be read ({type(e).__name__}: {first}). It must be "
            "a folder as save_pretrained writes it: config.json, preprocessor_config.json and "
            "model.safetensors, complete and undamaged."
        ) from e
    model, report = loaded
    _check_report(folder, report)
    return model, processor


def locate(backbone: BackboneConfig) -> Path:
    """The folder of a backbone's checkpoint, fetched by its hub name if it is not here."""
    given = backbone.weights
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    if given.startswith((".", "/", "~")) or given.count("/") != 1:
        raise UserError(
            f"backbone.weights: found {given}, which is neither a folder, nor a hub name such as "
            "owner/model, nor random."
        )
    return hub.fetch(given, backbone.revision or "main")


def _config(backbone: BackboneConfig, folder: Path) -> BeitConfig:
    values, _ = BeitConfig.get_config_dict(folder)
    if not values:
        raise FileNotFoundError(f"{folder} has no config.json")
    if values.get("model_type") != "beit":
        raise UserError(
            f"backbone.weights: {folder} holds a model of type {values.get('model_type')!r}; "
            "allowed: beit."
        )
    config = BeitConfig.from_dict(values)
    for key, expected in backbone.geometry.model_dump().items():
        if (found := getattr(config, key)) != expected:
            raise UserError(
                f"backbone.weights: {folder} has {key}={found}, but backbone={backbone.name} has "
                f"{expected}. Choose the backbone that fits these weights, or weights that fit "
                "this backbone."
            )
    return config


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    head = ("classifier.", "beit.pooler.")
    for kind, verb in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape of")):
        wrong = sorted(
            name
            for name in (k if isinstance(k, str) else k[0] for k in report[kind])
            if not name.startswith(head)
        )
        if wrong:
            raise UserError(
                f"backbone.weights: {folder} {verb} {len(wrong)} tensors of the backbone, among "
                f"them {', '.join(wrong[:3])}. The file is incomplete or of another model; fetch "
                "it again."
            )
