"""Does pre-training help? The same geometry, started in four ways, with the same recipe after it.

    python scripts/pretraining_gain.py --target breast --other pneumonia
    python scripts/pretraining_gain.py --target breast --embedded

From random weights, pre-trained on other images, pre-trained on the target's own train images, and
both in sequence; each of five seeds draws its own weights, pre-training and training. What follows
is `experiment=pretraining_gain`: k-NN, a linear probe, the top five layers, all layers. Where
several learning rates or numbers of epochs were run, the best is chosen for each of these by the
mean AUC of val over all ways and seeds, so that it is the same for all. Differences are paired on
test images, their p values Holm's for all of them at once. Finished parts are skipped: a run that
was interrupted goes on.

With --embedded nothing is pre-trained: the small BEiT that the package holds, as it is, beside
random weights of its geometry.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from beitmed.plots import page
from beitmed.plots.forest import Row, forest
from beitmed.runs import reader
from beitmed.runs.reader import FinishedRun
from beitmed.statistics import comparisons, seeds
from beitmed.storage import files

RANDOM = "random weights"
KINDS = {0: "linear probe", 5: "top 5 layers", "all": "all layers"}
Key = tuple[str, float, int]  # kind, learning rate, epochs


def beitmed(*arguments: str) -> None:
    """Do one command, shown as it is."""
    print("beitmed", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "beitmed", *arguments], check=False)
    if done.returncode:  # it has said why
        sys.exit(done.returncode)


def start(name: str, seed: int, options: argparse.Namespace, *extra: str) -> list[str]:
    """Pre-train, and give the overrides that begin with what was learnt."""
    folder = options.out / "pretrained"
    beitmed("pretrain", *options.common, *options.pretrain, *extra, f"seed={seed}",
            f"name={name}-{seed}", f"output_dir={folder}")  # fmt: skip
    return ["backbone=auto", f"backbone.weights={folder / f'{name}-{seed}' / 'huggingface'}"]


def ways(seed: int, options: argparse.Namespace) -> dict[str, list[str]]:
    """The overrides of a training by each way of starting."""
    random = [f"backbone={options.backbone}", "backbone.weights=random",
              *options.geometry, f"backbone.random.init_seed={seed}"]  # fmt: skip
    if options.embedded:
        return {RANDOM: random, "pre-trained": [f"backbone={options.backbone}"]}
    elsewhere, here = f"dataset={options.other}", f"dataset={options.target}"
    other = start("other", seed, options, *random, elsewhere)
    return {
        RANDOM: random,
        f"pre-trained on {options.other}": other,
        f"pre-trained on {options.target}": start("target", seed, options, *random, here),
        "pre-trained on both in turn": start("both", seed, options, *other, here),
    }


def trained(way: str, given: list[str], seed: int, options: argparse.Namespace) -> None:
    to = f"output_dir={options.out / 'trained' / way.replace(' ', '-')}"
    common = (*options.common, f"dataset={options.target}", *given, to, f"seed={seed}")
    beitmed("train", "experiment=pretraining_gain", *common, *options.train)
    knn = [o for o in options.train if not o.startswith(("train.", "unfreeze="))]
    beitmed("train", "method=features_knn", *common, *knn)


def read(names: list[str], options: argparse.Namespace) -> dict[Key, dict[str, list[FinishedRun]]]:
    """Finished runs by kind and recipe, then by way, in the order of their seeds."""
    found: dict[Key, dict[str, list[FinishedRun]]] = defaultdict(lambda: defaultdict(list))
    for way in names:
        runs, problems = reader.find([options.out / "trained" / way.replace(" ", "-")])
        assert not problems, problems
        for run in sorted(runs, key=lambda run: run.seed):
            cfg = run.config
            knn = not cfg.trains_backbone
            recipe = (cfg.train.learning_rate, cfg.train.epochs)
            key = ("k-NN", 0.0, 0) if knn else (KINDS[cfg.unfreeze], *recipe)
            found[key][way].append(run)
    return found


def val_auc(runs: list[FinishedRun]) -> float:
    values = [run.task.score(run.val.logits, run.val.labels, run.positive)["auc"] for run in runs]
    return float(np.mean([np.nan if v is None else v for v in values]))


def chosen(found: dict[Key, dict[str, list[FinishedRun]]]) -> dict[str, dict]:
    """Of each kind the runs of the recipe that is best on val, over all ways."""
    best: dict[str, tuple[float, Key]] = {}
    for key, of_way in found.items():
        score = float(np.mean([val_auc(runs) for runs in of_way.values()]))
        print(f"{key[0]}, learning rate {key[1]:g}, {key[2]} epochs: mean val AUC {score:.3f}")
        if key[0] not in best or score > best[key[0]][0]:
            best[key[0]] = (score, key)
    order = ["k-NN", *KINDS.values()]
    return {kind: found[best[kind][1]] for kind in order if kind in best}


def written(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    interval = "no interval" if low is None else f"[{low:+.3f}, {high:+.3f}]"
    return f"{value:+.3f} {interval}"


def compare(of_kind: dict[str, dict], out: Path, title: str) -> None:
    """Write gain.csv and the figure, and say what came out."""
    lines, rows = [], []
    for kind, of_way in of_kind.items():
        one = of_way[RANDOM][0]
        scores = {way: np.stack([r.score for r in runs]) for way, runs in of_way.items()}
        drawn = {way: [r.seed for r in runs] for way, runs in of_way.items()}
        means = {way: seeds.auc_summary(one.actual, s) for way, s in scores.items()}
        found = comparisons.auc_differences(one.actual, scores, drawn)
        for way, d in comparisons.against(found, RANDOM).items():
            lines.append((kind, way, means[way], means[RANDOM], d))
    adjusted = comparisons.holm([d.p for *_, d in lines])
    for (kind, way, mean, random, d), p in zip(lines, adjusted, strict=True):
        rows.append([kind, way, len(mean.values), mean.mean, mean.low, mean.high, random.mean,
                     d.value, d.low, d.high, d.p, p])  # fmt: skip
    header = ["after it", "way", "seeds", "auc", "auc_low", "auc_high", "auc_random_weights",
              "difference", "low", "high", "p", "p_holm"]  # fmt: skip
    files.write_atomic(out / "gain.csv", files.csv_text(header, rows))
    drawn_rows = [Row(f"{r[0]}: {r[1]}", r[7], r[8], r[9], written(r[7], r[8], r[9])) for r in rows]
    page.write_both(
        partial(
            forest,
            drawn_rows,
            title=title,
            xlabel="AUC less that of random weights",
            differences=True,
        ),
        out / "gain",
    )
    beyond = [r for r in rows if r[11] is not None and r[11] < 0.05]
    said = [f"{r[0]}, {r[1]}: {written(r[7], r[8], r[9])}" for r in beyond]
    print(f"\n{title}: of {len(rows)} differences to random weights, {len(beyond)} are beyond noise"
          + (f" ({'; '.join(said)})." if said else ": no gain is shown."))  # fmt: skip
    print(f"Table and figure: {out / 'gain.csv'}, {out / 'gain.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default="breast")
    parser.add_argument("--other", default="pneumonia")
    parser.add_argument("--embedded", action="store_true", help="the BEiT in the package")
    parser.add_argument("--backbone", help="default: beit_tiny, or beit_small with --embedded")
    parser.add_argument("--geometry", nargs="*", default=[], help="keys of the random weights")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("pretraining_gain"))
    parser.add_argument("--common", nargs="*", default=[], help="keys of every command")
    parser.add_argument("--pretrain", nargs="*", default=[], help="keys of each pre-training")
    parser.add_argument("--train", nargs="*", default=[], help="keys of each training")
    options = parser.parse_args()
    options.backbone = options.backbone or ("beit_small" if options.embedded else "beit_tiny")
    names: list[str] = []
    for seed in range(1, options.seeds + 1):
        for way, given in ways(seed, options).items():
            trained(way, given, seed, options)
            names = list(dict.fromkeys([*names, way]))
    title = f"What pre-training is worth on {options.target}, {options.seeds} seeds"
    compare(chosen(read(names, options)), options.out, title)


if __name__ == "__main__":
    main()
