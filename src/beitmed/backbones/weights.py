"""Where a backbone comes from: a hub name, a local folder, or random numbers where asked for.

No file is unpickled: transformers reads safetensors, or PyTorch files as plain tensors. No code of
a checkpoint is run: only families that `families.FAMILIES` knows are built, by transformers.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from pydantic import ValidationError
from transformers import AutoImageProcessor, BaseImageProcessor, PreTrainedConfig
from transformers.modeling_utils import load_state_dict

from beitmed.backbones import content, families, hub, timm_layout
from beitmed.backbones.families import FAMILIES
from beitmed.config.backbone import About, BackboneConfig, Geometry
from beitmed.data.pixels import to_rgb
from beitmed.errors import UserError

log = logging.getLogger(__name__)
EMBEDDED = "embedded"  # what `backbone.weights` says of the checkpoint that this package holds
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # PIL's numbers, as in preprocessor_config.json
# What checkpoints saved for another purpose hold besides a trunk; it is left out.
_OTHER_HEADS = re.compile(
    r"(^|\.)(classifier|cls_classifier|distillation_classifier|lm_head|decoder|decode_head"
    r"|auxiliary_head|fpn\w*|pooler|layernorm|norm|mask_token)(\.|$)"
)


def load(
    backbone: BackboneConfig, class_names: tuple[str, ...], seed: int
) -> tuple[Any, BaseImageProcessor]:
    """Build a classifier and its image processor.

    All but the head (the classifier, and a norm after the pooling) comes from the checkpoint, or
    from `random.init_seed`: the same for every `seed`, which draws the classifier only. Raises
    UserError where the weights are missing, damaged, or of another architecture or size than the
    backbone's YAML says.
    """
    backbone = complete(backbone)
    model, processor = (
        _random(backbone) if backbone.random_weights else _pretrained(backbone, len(class_names))
    )
    new_head(model, class_names, seed)
    return model, processor


def beside(backbone: BackboneConfig, endings: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint that its classifier leaves out, by name: those that end so.

    Of random weights there are none.
    """
    if backbone.random_weights:
        return {}
    folder = locate(backbone)
    with _reading(folder):
        if timm_layout.found(folder):
            return {}
        return {
            name: tensor.float()
            for file in content.weights_of(folder)
            for name, tensor in load_state_dict(str(file)).items()
            if name.endswith(endings)
        }


def complete(backbone: BackboneConfig, cache_root: str | None = None) -> BackboneConfig:
    """The backbone with what only its checkpoint says: its content, and what it leaves open.

    cache_root: where digests of large files are remembered (`cache.root`). Random weights are
    decided by their settings and are returned as they are. Raises UserError where the checkpoint
    is not there, is of a family that is not known, or is not the one that was recorded.
    """
    if backbone.random_weights:
        return backbone
    folder = locate(backbone)
    with _reading(folder):
        changes = {} if backbone.family is not None else _left_open(folder, backbone)
        if backbone.about is None and not timm_layout.found(folder):
            changes["about"] = _about(folder)
        unsaid: dict[str, Any] = {}
        if timm_layout.found(folder):  # the files do not say all of it
            heads = _timm_config(folder, backbone).num_attention_heads
            unsaid["timm"] = {"heads": heads, "processor": _processor(folder, backbone).to_dict()}
        found = content.digest(folder, unsaid, cache_root)
    if backbone.content not in (None, found):
        raise UserError(
            f"backbone.weights: {folder} does not hold the weights that were recorded "
            f"(backbone.content: found {found[:12]}..., expected {str(backbone.content)[:12]}...). "
            "Restore them or name their folder, or set backbone.content=null for a new run."
        )
    return backbone.model_copy(update={**changes, "content": found})


def _left_open(folder: Path, backbone: BackboneConfig) -> dict[str, Any]:
    config = _config(folder, None)
    size = _input_size(_processor(folder, backbone))
    values = families.geometry(config)
    if size != values["image_size"]:
        values["input_size"] = size
    return {
        "name": _name(config) if backbone.name == "auto" else backbone.name,
        "family": config.model_type,
        "geometry": Geometry.model_validate(values),
    }


def _about(folder: Path) -> About | None:
    """What a pre-training of this project says of its checkpoint."""
    said = PreTrainedConfig.get_config_dict(folder)[0].get("about")
    try:
        return About.model_validate(said)
    except ValidationError:
        return None  # somebody else's word


def _name(config: PreTrainedConfig) -> str:
    """A checkpoint's own name on the hub, or its family and size: never that of its folder."""
    own = re.fullmatch(r"[A-Za-z0-9][\w.-]*/([A-Za-z0-9][\w.-]{0,99})", config.name_or_path or "")
    size = f"{config.model_type}_{config.hidden_size}x{config.num_hidden_layers}"
    return own[1] if own else size


def identity(backbone: BackboneConfig) -> dict[str, Any]:
    """What decides every number of the trunk and the pixels, found without loading a model.

    The content of a checkpoint, or the settings that random weights are drawn from.
    """
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if not backbone.random_weights:
        if backbone.content is None:
            backbone = complete(backbone)
        return {"content": backbone.content, "transformers": versions["transformers"]}
    assert backbone.random is not None
    settings = backbone.random.model_dump(exclude_none=True)
    geometry = backbone.known_geometry.model_dump(exclude_none=True)
    return {"geometry": geometry, "random": settings, "family": backbone.family, **versions}


def new_head(model: Any, class_names: tuple[str, ...], seed: int) -> None:
    """Start the classifier, and a norm after the pooling, anew from `seed`; name the classes."""
    # Always drawn anew, after everything else and from a state of its own, so that it depends on
    # the seed alone and not on how many numbers loading has drawn.
    config, family = model.config, families.of(model.config)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: i for i, name in enumerate(class_names)}
    model.num_labels = config.num_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.classifier = torch.nn.Linear(family.pooled_size(config), config.num_labels)
        torch.nn.init.trunc_normal_(model.classifier.weight, std=config.initializer_range)
        torch.nn.init.zeros_(model.classifier.bias)
        if not family.norm_first:
            model.get_submodule(family.norm).reset_parameters()


def _random(backbone: BackboneConfig) -> tuple[Any, BaseImageProcessor]:
    settings, geometry = backbone.random, backbone.known_geometry
    assert settings is not None and backbone.family is not None
    family = FAMILIES[backbone.family]
    config = families.random_config(
        backbone.family,
        geometry.model_dump(exclude_none=True, exclude={"input_size"}),
        layer_scale=settings.layer_scale_init_value,
        drop_path=settings.drop_path_rate,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.init_seed)
        model: Any = family.classifier(config)
        # transformers starts these at zero; a pre-trained trunk has learnt them, and at zero
        # nobody would see that one was forgotten.
        for name in family.zero_at_first:
            torch.nn.init.trunc_normal_(model.get_parameter(name), std=config.initializer_range)
    return model, _own_processor(backbone)


def _own_processor(backbone: BackboneConfig) -> BaseImageProcessor:
    """The image processor that a backbone's YAML describes: whole images, scaled."""
    settings, geometry = backbone.random, backbone.known_geometry
    assert settings is not None and backbone.family is not None
    size = geometry.input_size or geometry.image_size
    return FAMILIES[backbone.family].processor(
        size={"height": size, "width": size},
        do_center_crop=False,
        resample=_RESAMPLE[settings.resample],
        image_mean=settings.image_mean,
        image_std=settings.image_std,
    )


def _pretrained(backbone: BackboneConfig, num_labels: int) -> tuple[Any, BaseImageProcessor]:
    folder = locate(backbone)
    # Its table of what is missing or left over reads as trouble; `_check_report` judges the same.
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():  # where its bar is only noise
        transformers.logging.disable_progress_bar()
    with _reading(folder):
        config = _config(folder, backbone)
        config.num_labels = num_labels
        processor = _processor(folder, backbone)
        _check_input_size(folder, backbone, _input_size(processor))
        in_timms_layout = timm_layout.found(folder)
        loaded: Any = FAMILIES[config.model_type].classifier.from_pretrained(
            None if in_timms_layout else folder,
            state_dict=timm_layout.state_dict(folder) if in_timms_layout else None,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # the old classifier, if any; the report is checked
            output_loading_info=True,
        )
    model, report = loaded
    _check_report(folder, model, report)
    return model, processor


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as e:  # transformers, safetensors and torch each raise their own kinds
        first = next((line for line in str(e).splitlines() if line.strip()), "")
        raise UserError(
            f"backbone.weights: {folder} cannot be read ({type(e).__name__}: {first}). It must be "
            "a folder as save_pretrained writes it: config.json, preprocessor_config.json and "
            "model.safetensors, complete and undamaged."
        ) from e


def _processor(folder: Path, backbone: BackboneConfig) -> BaseImageProcessor:
    if timm_layout.found(folder):
        if (said := timm_layout.processor(folder)) is not None:
            return said
        if backbone.random is None:
            raise UserError(
                f"backbone.weights: nothing in {folder} says how images are scaled and normalised. "
                "Give it a preprocessor_config.json, or choose a backbone whose YAML says it (not "
                "auto)."
            )
        return _own_processor(backbone)
    # "pil" is the processor that the paper used; the torchvision one rounds otherwise. A family
    # that has no such one (DINOv3) gets its own all the same.
    return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)


def _input_size(processor: BaseImageProcessor) -> int:
    """The side of what a processor makes of a square image."""
    black = to_rgb(np.zeros((28, 28), np.uint8))
    return processor(black, return_tensors="pt")["pixel_values"].shape[-1]


def locate(backbone: BackboneConfig) -> Path:
    """The folder of a backbone's checkpoint, fetched by its hub name if it is not here."""
    if backbone.weights == EMBEDDED:
        return Path(__file__).with_name(EMBEDDED)
    return hub.locate(
        backbone.weights, backbone.revision or "main", "backbone.weights", "owner/model"
    )


def _config(folder: Path, backbone: BackboneConfig | None) -> PreTrainedConfig:
    """A checkpoint's configuration, held against the backbone's family and geometry if given."""
    if timm_layout.found(folder):
        values = _timm_config(folder, backbone).to_dict()
    else:
        values, _ = PreTrainedConfig.get_config_dict(folder)
    if not values:
        raise FileNotFoundError(f"{folder} has no config.json")
    found = values.get("model_type")
    if found not in FAMILIES or (backbone and found != backbone.family):
        allowed = backbone.family if backbone and found in FAMILIES else ", ".join(FAMILIES)
        hint = " Or set backbone=auto, which takes what is there." if found in FAMILIES else ""
        raise UserError(
            f"backbone.weights: {folder} holds a model of type {found!r}; allowed: {allowed}.{hint}"
        )
    family = FAMILIES[found]
    config = family.classifier.config_class.from_dict({**values, **family.always})
    if backbone is not None:
        expected = backbone.known_geometry.model_dump()
        for key, value in families.geometry(config).items():
            if value != expected[key]:
                raise UserError(
                    f"backbone.weights: {folder} has {key}={value}, but backbone={backbone.name} "
                    f"has {expected[key]}. Choose the backbone that fits these weights (or "
                    "backbone=auto), or weights that fit this backbone."
                )
    return config


def _timm_config(folder: Path, backbone: BackboneConfig | None) -> PreTrainedConfig:
    geometry = backbone.geometry if backbone else None
    return timm_layout.config(folder, geometry.num_attention_heads if geometry else None)


def _check_input_size(folder: Path, backbone: BackboneConfig, found: int) -> None:
    geometry = backbone.known_geometry
    assert backbone.family is not None
    interpolates = FAMILIES[backbone.family].interpolates
    expected = geometry.input_size or geometry.image_size
    if found != expected or (found != geometry.image_size and not interpolates):
        raise UserError(
            f"backbone.weights: the image processor of {folder} gives {found} x {found} px, but "
            f"backbone={backbone.name} reads {expected if interpolates else geometry.image_size} "
            f"px. Set the sizes in its preprocessor_config.json, or choose another backbone."
        )


def _check_report(folder: Path, model: Any, report: dict[str, Any]) -> None:
    """Only the head may be new, and only what belongs to other heads may be left out."""
    family = families.of(model.config)
    head = ("classifier.",) if family.norm_first else ("classifier.", f"{family.norm}.")
    names = {
        kind: sorted(k if isinstance(k, str) else k[0] for k in report[f"{kind}_keys"])
        for kind in ("missing", "mismatched", "unexpected")
    }
    for kind, verb in (("missing", "lacks"), ("mismatched", "has another shape of")):
        wrong = [name for name in names[kind] if not name.startswith(head)]
        if wrong:
            raise UserError(
                f"backbone.weights: {folder} {verb} {len(wrong)} tensors of the backbone, among "
                f"them {', '.join(wrong[:3])}. The file is incomplete or of another model; fetch "
                "it again."
            )
    wrong = [name for name in names["unexpected"] if not _OTHER_HEADS.search(name)]
    if wrong:
        raise UserError(
            f"backbone.weights: {folder} has {len(wrong)} tensors that a model of its config.json "
            f"has no place for, among them {', '.join(wrong[:3])}. The two files belong to "
            "different models; fetch them again."
        )
    left_out = {_OTHER_HEADS.search(name)[2] for name in names["unexpected"]}  # type: ignore[index]
    log.info(
        "%s: the classifier is new%s; the rest is the checkpoint's%s.",
        folder.name,
        "" if family.norm_first else ", and the norm before it",
        f", without its {', '.join(sorted(left_out))}" if left_out else "",
    )
