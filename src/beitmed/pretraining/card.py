"""What a pre-trained checkpoint says of itself: in its card, and in each report that uses it."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.config import PretrainRun
from beitmed.config.pretrain import TokensObjective
from beitmed.pretraining.sources import Source


def about(cfg: PretrainRun, sources: Sequence[Source], epochs: float) -> dict[str, str]:
    """The values of `config.backbone.About`."""
    said = [_of_set(source) for source in sources]
    names = " and ".join(s.facts["set"] for s in sources if s.labelled is not None)
    val = "train and val" if cfg.pretrain.val else "train"
    overlap = (
        f"its test images were not read, those of {val} were (without labels)"
        if names else "not known: one's own images"
    )  # fmt: skip
    return {
        "licence": "; ".join(f"{s.facts['set']}: {s.facts['licence']}" for s in sources),
        "source": f"beitmed pretrain objective={cfg.objective.name}, {epochs:g} epochs, "
        f"{_start(cfg)}",
        "trained_on": "; ".join(said),
        "overlap": f"{names}: {overlap}" if names else overlap,
    }


def card(
    cfg: PretrainRun, name: str, sources: Sequence[Source], row: dict[str, float | int],
    seconds: float | None,
) -> str:  # fmt: skip
    """The card as Markdown; row: the last of the history."""
    known = about(cfg, sources, row["epoch"])
    table = [
        f"| {s.facts['set']} | {s.facts['splits']} | {s.facts['images']:,} | "
        f"{s.facts['held_out']:,} | {s.weight:g} | {s.facts['licence']} |"
        for s in sources
    ]
    tokens = isinstance(cfg.objective, TokensObjective) and cfg.objective.tokenizer == "random"
    notes = [
        *(["The tokenizer had RANDOM weights: its visual words mean nothing."] if tokens else []),
        *([] if not any(s.facts["synthetic"] for s in sources) else
          ["Learnt from SYNTHETIC images; nothing here says anything about patients."]),
        f"Overlap with test sets: {known['overlap']}.",
        "Not a medical device. What it is worth on other images has to be measured there.",
    ]  # fmt: skip
    lines = [
        "---", "library_name: transformers", "tags: [self-supervised, medical-imaging]", "---",
        f"# {name}", "",
        f"A {cfg.backbone.family} of {_geometry(cfg)}, pre-trained without labels by "
        f"`beitmed pretrain`. It {_start(cfg)}.", "",
        "| images of | splits | learnt from | held out | weight | licence |",
        "| --- | --- | --- | --- | --- | --- |", *table, "",
        f"- objective: {cfg.objective.name}, {cfg.objective.mask_ratio:.0%} of the patches masked "
        f"({cfg.objective.masking})",
        f"- stored at {cfg.size} px; {row['epoch']:g} epochs, {row['step']:,} steps of "
        f"{cfg.train.batch_size} images, seed {cfg.seed}"
        + ("" if seconds is None else f", {seconds:,.0f} s"),
        *(f"- {name.replace('_', ' ')} at the end: {value:.4f}" for name, value in row.items()
          if name not in ("epoch", "step", "learning_rate")),
        "", *(f"{note}\n" for note in notes),
        "Use: `beitmed train backbone=auto backbone.weights=FOLDER`, or transformers' "
        "`from_pretrained`.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _start(cfg: PretrainRun) -> str:
    if cfg.backbone.random_weights:
        return "started from RANDOM numbers"
    return f"started from the checkpoint {cfg.backbone.name} ({str(cfg.backbone.content)[:12]})"


def _of_set(source: Source) -> str:
    synthetic = ", SYNTHETIC" if source.facts["synthetic"] else ""
    return (
        f"{source.facts['images']:,} images of {source.facts['set']} "
        f"({source.facts['splits']}, no labels{synthetic})"
    )


def _geometry(cfg: PretrainRun) -> str:
    g = cfg.backbone.known_geometry
    return (
        f"{g.num_hidden_layers} layers of {g.hidden_size}, {g.input_size or g.image_size} px in "
        f"patches of {g.patch_size}"
    )
