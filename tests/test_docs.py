"""README and docs: every command composes, names the runs that it should, and figures are right.

Commands that train are resolved, not run: that takes what a user's mistake would take, a moment.
A few commands are run on one finished run, which is made by the command of `docs/extending.md`.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, REPOSITORY, beitmed, resolve
from predict_checks import assert_predicts
from scipy.stats import norm

from beitmed import config, data, methods
from beitmed.commands import arguments as parser
from beitmed.commands import (
    cache,
    explain,
    export,
    front,
    jobs,
    power,
    predict,
    report,
    robustness,
    validate,
)
from beitmed.commands.arguments import SWITCH, Key
from beitmed.runs import reader
from beitmed.storage.store import Store

PAGES = {
    p.relative_to(REPOSITORY).as_posix(): p.read_text(encoding="utf-8")
    for p in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "CHANGELOG.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
    )
}
EVERYTHING = "\n".join(PAGES.values())
_OURS = ("beitmed ", "python -m beitmed", "bash scripts/", "python scripts/")
SHOWN = [  # in blocks of their own, without the comments behind them
    re.sub(r"\s+# .*", "", line)
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
INLINE = [
    code
    for page in PAGES.values()
    for code in re.findall(r"`([^`\n]+)`", page)
    if code.startswith(_OURS)
]
COMMANDS = list(dict.fromkeys([*SHOWN, *INLINE]))
config.register_resolvers()
#: The keys of each command that takes no configuration's, or takes others besides.
KEYS = {
    "evaluate": {},
    "report": report.KEYS,
    "robustness": robustness.KEYS,
    "audit": {"strict": Key("", None, SWITCH)},
    "explain": explain.KEYS,
    "predict": predict.KEYS,
    "validate": validate.KEYS,
    "export": export.KEYS,
    "cache": cache.KEYS,
    "folds": {},
    "power": power.KEYS,
}
SCRIPTS = ("scripts/test.sh", "scripts/bench.py", "scripts/simulate.py")
#: Those that take no key of a configuration.
ALONE = ("report", "cache", "folds", "power")


def words_of(command: str) -> tuple[str, list[str]]:
    """The command's name and its arguments, whichever way it is called."""
    first, *rest = shlex.split(command)
    if first == "bash":
        script, *rest = rest
        if script == "scripts/quickstart.sh":
            return "train", rest or ["experiment=quickstart"]
        return script, rest
    if first == "python" and rest[:2] == ["-m", "beitmed"]:
        return rest[2], rest[3:]
    if first == "python" and rest[0] == "-m":
        module = rest[1].removeprefix("beitmed.")
        return {"features": "cache"}.get(module, module), rest[2:]
    return (rest[0], rest[1:])


def product(pattern: str, **choices: list) -> set[str]:
    """The pattern filled with every combination of the choices."""
    return {
        pattern.format(**dict(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    }


PAPERS = {"dataset": ["breast", "pneumonia"], "size": [28, 224], "balance": ["full", "balanced"]}
TOP5 = "{dataset}_{size}_{balance}_beit_large_top5_seed{seed}"
#: The folders' names, without their digests, of every command that is shown in a block.
RUNS = {
    "bash scripts/quickstart.sh": {"phantom_28_full_beit_small_top5_seed42"},
    "beitmed train dataset=breast size=28 balanced=true": product(
        TOP5, dataset=["breast"], size=[28], balance=["balanced"], seed=[42]
    ),
    "beitmed train experiment=paper": product(TOP5, **PAPERS, seed=[42]),
    "beitmed train experiment=freeze_depth dataset=breast": product(
        "breast_28_full_beit_large_top{depth}_seed{seed}", depth=[0, 1, 2, 5], seed=range(1, 6)
    ),
    "beitmed train -m dataset=breast,pneumonia size=28,224 balanced=true,false seed=1,2,3": product(
        TOP5, **PAPERS, seed=[1, 2, 3]
    ),
    "beitmed train dataset=folder dataset.path=images.csv size=224": {
        "folder_224_full_beit_large_top5_seed42"
    },
    "beitmed train experiment=cross_validation dataset.path=images.csv size=224": product(
        "folder_224_full_beit_large_top5_fold{fold}_seed42", fold=range(5)
    ),
    "beitmed train backbone=auto backbone.weights=FOLDER dataset=breast": {
        "breast_28_full_auto_top5_seed42"  # before the checkpoint was read
    },
    "beitmed train -m method=majority,pixels_logistic,features_knn dataset=breast "
    "backbone=beit_tiny": product(
        "breast_28_full_{method}_seed42",
        method=["majority", "pixels_logistic", "features_knn_beit_tiny"],
    ),
    "beitmed train method=autogluon method.python=VENV/bin/python": {
        "breast_28_full_autogluon_seed42"
    },
    "beitmed train --config-dir my/conf dataset=breast balanced=true balancing=equal "
    "'evaluate.metrics={youden: my_extension.youden}'": {
        "breast_28_equal_beit_large_top5_seed42"
    },
    "beitmed train processes=auto dataset=path size=224": {
        "path_224_full_beit_large_top5_seed42"
    },
    "beitmed train -m launcher=slurm hydra.launcher.gpus_per_node=4 processes=4 dataset=path "
    "size=224 seed=1,2,3": product(
        "path_224_full_beit_large_top5_seed{seed}", seed=[1, 2, 3]
    ),
    "beitmed train dataset=breast evaluate.tta=flip": {"breast_28_full_beit_large_top5_seed42"},
    "beitmed train --config-dir my/conf dataset=breast method=brightness": {
        "breast_28_full_brightness_seed42"
    },
    "beitmed train dataset=breast backbone=beit_tiny data.root=planted data.download=false "
    "data.allow_unofficial=true train.learning_rate=1e-3 output_dir=planted": {
        "breast_28_full_beit_tiny_top5_seed42"
    },
    "beitmed train -m experiment=smoke dataset=breast,pneumonia balanced=false,true "
    "seed=1,2,3": product(
        "{dataset}_28_{balance}_beit_tiny_top5_seed{seed}",
        dataset=["breast", "pneumonia"], balance=["full", "balanced"], seed=[1, 2, 3],
    ),
    "beitmed train -m method=majority,pixels_logistic,features_knn,features_logistic "
    "dataset=breast,pneumonia backbone=beit_tiny": product(
        "{dataset}_28_full_{method}_seed42", dataset=["breast", "pneumonia"],
        method=["majority", "pixels_logistic", "features_knn_beit_tiny",
                "features_logistic_beit_tiny"],
    ),
    "beitmed train -m method=automl method.time_budget_s=60 dataset=breast,pneumonia": product(
        "{dataset}_28_full_automl_seed42", dataset=["breast", "pneumonia"]
    ),
    "beitmed train experiment=label_efficiency dataset=breast backbone=beit_tiny "
    "train.learning_rate=1e-3": {
        f"breast_28_full_{method}{'' if part == 1 else f'_labels{part}'}_seed{seed}"
        for method in ("beit_tiny_top5", "features_logistic_beit_tiny", "features_knn_beit_tiny",
                       "resnet18_short")
        for part in (0.01, 0.05, 0.1, 0.25, 0.5, 1)
        for seed in range(1, 6)
    },
    "beitmed train experiment=label_efficiency dataset=breast backbone=beit_small "
    "method=backbone,features_logistic,features_knn": {
        f"breast_28_full_{method}{'' if part == 1 else f'_labels{part}'}_seed{seed}"
        for method in ("beit_small_top5", "features_logistic_beit_small", "features_knn_beit_small")
        for part in (0.01, 0.05, 0.1, 0.25, 0.5, 1)
        for seed in range(1, 6)
    },
    "beitmed train -m launcher=joblib dataset=breast,pneumonia seed=1,2,3": product(
        TOP5, dataset=["breast", "pneumonia"], size=[28], balance=["full"], seed=[1, 2, 3]
    ),
    "beitmed train -m launcher=slurm hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=1 "
    "dataset=breast,pneumonia seed=1,2,3": product(
        TOP5, dataset=["breast", "pneumonia"], size=[28], balance=["full"], seed=[1, 2, 3]
    ),
    "beitmed train -m method=resnet18 precision=bf16 seed=1 dataset=breast,pneumonia": product(
        "{dataset}_28_full_resnet18_seed1", dataset=["breast", "pneumonia"]
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that `docs/extending.md` shows, named in their first lines."""
    folder = tmp_path_factory.mktemp("own")
    shown = re.findall(
        r"```(?:yaml|python)\n# (\S+)\n(.*?)```", PAGES["docs/extending.md"], re.DOTALL
    )
    assert len(shown) == 4
    for name, content in shown:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def finished(own: Path) -> Path:
    """The same folder with runs of that page's commands, of few images: `my-run`, `my-method`."""
    commands = [c for c in SHOWN if "--config-dir" in c]
    for name, command in zip(("my-run", "my-method"), commands, strict=True):
        words = [a for a in words_of(command)[1] if a != "dataset=breast"]
        few = [a for a in FAST if "train." not in a or name == "my-run"]
        done = beitmed(*words, *few, f"name={name}", "cache.root=cache", cwd=own)
        assert done.returncode == 0, done.stdout + done.stderr
    return own


def test_every_page_uses_commands_that_are_known():
    assert {"bash scripts/quickstart.sh", "bash scripts/test.sh"} <= set(COMMANDS)
    first = {words_of(c)[0] for c in COMMANDS} - {"--help"}
    scripts = {p.relative_to(REPOSITORY).as_posix() for p in REPOSITORY.glob("scripts/*.*")}
    assert first <= {*front.COMMANDS, *scripts}
    assert {c for c in SHOWN if words_of(c)[0] == "train"} == set(RUNS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if words_of(c)[0] == "train"])
def test_a_command_trains_the_runs_that_it_should(command, own, monkeypatch):
    monkeypatch.chdir(own)
    planned = jobs.of([a for a in words_of(command)[1] if a not in ("--cfg", "job")])
    config.check_read(planned.configurations, planned.overrides)
    assert len(planned.configurations) == len(planned.found)
    names = {config.run_name(cfg).rpartition("_")[0] for cfg in planned.configurations}
    assert names == RUNS.get(command, names)


@pytest.mark.parametrize("command", [c for c in COMMANDS if words_of(c)[0] in ("prepare", *KEYS)])
def test_the_keys_of_other_commands_exist(command, own, monkeypatch):
    monkeypatch.chdir(own)
    name, arguments = words_of(command)
    given = parser.parse(arguments, KEYS.get(name, {}), others=name not in ALONE)
    own_images = ["dataset=folder"] if "dataset.columns" in command else []
    if name == "validate" and given.values["dataset"] is not None:
        own_images = [f"dataset={given.values['dataset']}"]
    others = [o for o in given.others if not o.startswith("run.")]
    assert jobs.configurations([*own_images, *others])
    if (rule := given.values.get("prune")) is not None:
        assert cache._chosen([], rule) == []


def test_the_options_of_the_scripts_exist():
    for command in (c for c in COMMANDS if c.startswith("python scripts/")):
        source = (REPOSITORY / command.split()[1]).read_text()
        options = [word for word in command.split() if word.startswith("--")]
        assert [word for word in options if f'"{word}"' not in source] == [], command


def test_what_stands_in_the_runs_of_the_extensions(finished, monkeypatch):
    metrics = (finished / "outputs" / "my-run" / "metrics.json").read_text()
    assert '"youden"' in metrics
    monkeypatch.syspath_prepend(finished)
    run = reader.read(finished / "outputs" / "my-method")
    model = methods.load(run.config, run.path, tuple(run.data["class_names"]))
    images = data.load(run.config).splits["test"].images
    assert np.array_equal(model.logits(images), run.test.logits)
    assert_predicts(run.path, images, finished)


def test_the_evaluation_of_the_readme(finished):
    done = beitmed("outputs/my-run", "dataset.positive_label=0", cwd=finished, module="evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((finished / "outputs" / "my-run" / "metrics.json").read_text())
    assert metrics["positive_class"]["label"] == 0


def test_the_report_of_the_readme(finished):
    done = beitmed("outputs", cwd=finished, module="report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (finished / "report" / "report.html").stat().st_size > 100_000


def test_the_cache_is_listed_and_pruned_as_the_docs_say(finished):
    listed = beitmed("cache.root=cache", cwd=finished, module="cache")
    assert listed.returncode == 0 and "beit_tiny" in listed.stdout
    kept = beitmed("cache.root=cache", "prune=unused:30", cwd=finished, module="cache")
    assert "removed 0 entries" in kept.stdout and Store(finished / "cache").entries()


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """An environment in which the scripts find Python installed that prints what it is told."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    stamp = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=REPOSITORY,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "venv" / ".beitmed-test").write_text(stamp)
    return {"BEITMED_VENV": str(tmp_path / "venv"), "PATH": "/usr/bin:/bin"}


def _script(told: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", *words], cwd=REPOSITORY, env=told, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_quickstarts_settings_apply_only_without_arguments(told):
    start = ["-m", "beitmed", "train"]
    assert _script(told, "scripts/quickstart.sh") == [*start, "experiment=quickstart"]
    papers = ["dataset=breast", "size=28", "balanced=true"]
    assert _script(told, "scripts/quickstart.sh", *papers) == [*start, *papers]
    [cfg] = jobs.configurations(papers)
    assert (cfg.backbone.name, cfg.train.learning_rate) == ("beit_large", 3e-4)


def test_the_test_command_leaves_out_slow_tests_unless_told_otherwise(told):
    words = _script(told, "scripts/test.sh", "-m", "slow or not slow")
    assert words[:2] == ["-m", "pytest"]
    assert [b for a, b in itertools.pairwise(words) if a == "-m"] == [
        "pytest", "not slow", "slow or not slow",
    ]  # fmt: skip
    # In CI all of them run there but those that need engines, which it sets up afterwards.
    assert '$command -m "not engine"' in (REPOSITORY / ".ci" / "run").read_text()
    assert "\nbash scripts/engines.sh" in (REPOSITORY / ".ci" / "run").read_text()


def test_the_readme_can_be_read_in_five_minutes():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150
    assert [x for x in lines if len(x) > 110 and not x.startswith(("|", "<img"))] == []


def test_every_page_is_reached_and_every_link_leads_somewhere():
    reached = set()
    for name, page in PAGES.items():
        here = (REPOSITORY / name).parent
        for a, b in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page):
            target, _, anchor = (a or b).partition("#")
            if target.startswith("http"):
                continue
            path = (here / target).resolve()
            assert path.exists(), f"{name}: {target}"
            reached.add(path)
            heads = re.findall(r"^#+ (.*)$", path.read_text() if anchor else "", re.MULTILINE)
            assert not anchor or anchor in [h.lower().replace(" ", "-") for h in heads], anchor
    assert {REPOSITORY / name for name in PAGES if name != "README.md"} <= reached


_CURVES = "pretraining-curves.svg"  # of a loss, and no result


def test_figures_of_results_say_what_they_rest_on():
    figures = {
        p for p in (REPOSITORY / "docs").glob("*.svg") if p.name not in ("flow.svg", _CURVES)
    }
    said = "RANDOM|SYNTHETIC|random weights"
    assert {p.name for p in figures if not re.search(said, p.read_text())} == set()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n ").split("|")]


def _shown(row: dict[str, str]) -> list[str]:
    """A row of a CSV file as a table shows it: `X low` and `X high` stand behind X."""
    cells = []
    for key, value in row.items():
        if not key.endswith((" low", " high")):
            low, high = row.get(f"{key} low"), row.get(f"{key} high")
            cells.append(
                f"{_number(value)} [{_number(low)}, {_number(high)}]" if low else _number(value)
            )
    return cells


def _number(text: str) -> str:
    """A number as a table has it: thousands apart, a fraction with three digits."""
    if text.isdigit():
        return f"{int(text):,}"
    return f"{float(text):.3f}" if re.fullmatch(r"-?0\.\d+", text) else text


def test_tables_of_results_are_their_csv_files():
    seen = set()
    for name, page in PAGES.items():
        for file, table in re.findall(r"<!-- (results/\S+\.csv) -->\n((?:\|.*\n)+)", page):
            path = (REPOSITORY / name).parent / file
            with path.open(newline="", encoding="utf-8") as f:
                rows = list(csv.DictReader(f))
            heads = [k for k in rows[0] if not k.endswith((" low", " high"))]
            lines = table.splitlines()
            assert [_cells(lines[0]), *map(_cells, lines[2:])] == [heads, *map(_shown, rows)], file
            seen.add(path)
        seen |= {(REPOSITORY / name).parent / x for x in re.findall(r"\]\((\S+\.csv)\)", page)}
    assert seen == set((REPOSITORY / "docs" / "results").glob("*.csv"))


def _published(file: str) -> list[dict[str, str]]:
    with (REPOSITORY / "src" / "beitmed" / "published" / file).open(encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_the_table_of_the_papers_variants_is_the_recipe_and_what_was_published():
    rows = re.findall(
        r"^\| (Breast|Pneumonia)MNIST \| (\d+) \| (yes|no) \| ([\d,]+) \| (\d+) \| ([\d.]+) \| "
        r"([\d.]+) \| ([\d.]+) \|$",
        PAGES["docs/results.md"], re.MULTILINE,
    )  # fmt: skip
    counts = {"breast": (147, 399), "pneumonia": (1214, 3494)}
    for row, theirs in zip(rows, _published("paper_runs.csv"), strict=True):
        name, size, balanced = row[0].lower(), row[1], str(row[2] == "yes").lower()
        assert (name, size, balanced, row[3].replace(",", ""), *row[4:]) == tuple(
            theirs[key] for key in ("dataset", "size", "balanced", "n_train", "batch_size",
                                    "weight_decay", "test_auc", "test_acc")
        )  # fmt: skip
        cfg = resolve(f"dataset={name}", f"size={size}", f"balanced={balanced}")
        minority, majority = counts[name]
        kept = majority if cfg.majority_ratio is None else int(minority * cfg.majority_ratio)
        assert (cfg.train.batch_size, cfg.train.weight_decay) == (int(row[4]), float(row[5]))
        assert minority + kept == int(theirs["n_train"])


def test_the_table_of_published_baselines_is_what_was_published():
    found = re.findall(r"^\| ([\w -]+) \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \|$",
                       PAGES["docs/results.md"], re.MULTILINE)  # fmt: skip
    official = {
        (r["method"], r["dataset"]): (float(r["test_auc"]), float(r["test_acc"]))
        for r in _published("results.csv")
        if r["size"] == "28" and r["source"].startswith("MedMNIST v2")
    }
    assert len(found) == 5
    for method, *values in found:
        assert tuple(map(float, values)) == (
            official[method, "breastmnist"] + official[method, "pneumoniamnist"]
        )


def test_the_interval_that_the_readme_gives_for_the_papers_auc():
    found = re.search(
        r"AUC of ([\d.]+)\s+has a 95 % interval of about ([\d.]+) to ([\d.]+)", PAGES["README.md"]
    )
    auc, low, high = map(float, found.groups())
    positive, negative = 114, 42  # BreastMNIST's test split: benign or normal, malignant
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)  # Hanley and McNeil 1982, Radiology 143:29
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    half = norm.isf(0.025) * (variance / (positive * negative)) ** 0.5
    assert (round(auc - half, 2), round(auc + half, 2)) == (low, high)


def test_the_page_on_evidence_says_where_the_simulated_auc_intervals_cover_too_much():
    with (REPOSITORY / "docs" / "results" / "coverage.csv").open(encoding="utf-8") as f:
        rows = [row for row in csv.DictReader(f) if row["table"] == "auc"]
    share = [float(row["share"]) for row in rows]
    over = [row["setting"] for row in rows if float(row["share"]) > 0.97]
    extreme = [s for s in over if re.search(r"AUC 0\.99|\b4 against|against 4$", s)]
    said = (
        f"Coverage is {min(share):.0%} to {max(share):.0%}, and above 97 % in {len(over)} of the "
        f"{len(rows)} settings, {len(extreme)} of which"
    )
    page = " ".join(PAGES["docs/evidence.md"].split())
    assert re.sub(r"(\d+)% to (\d+)%", r"\1 to \2 %", said) in page


def test_the_settings_and_their_values_exist():
    cfg = resolve().model_dump()
    table = PAGES["docs/settings.md"]
    keys = {
        key
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for key in re.findall(r"`([a-z_]+)(?:\.\*)?`", cell)
    }
    assert keys - {"experiment", "launcher"} == set(cfg)
    for group in ("dataset", "backbone", "method", "balancing", "experiment", "launcher"):
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{group}` |")]
        named = set(re.findall(r"`([a-z0-9_]+)`", row.split("|")[2]))
        assert named == {p.stem for p in (config.conf_dir() / group).glob("*.yaml")}


def test_settings_that_are_mentioned_exist():
    """Every `key=value` or `group.key` of a known group, wherever it stands."""
    own = {key for keys in KEYS.values() for key in keys} | {
        "experiment", "launcher", "HF_HUB_OFFLINE", "OMP_NUM_THREADS",
    }  # fmt: skip
    methods = {p.stem for p in (config.conf_dir() / "method").glob("*.yaml")}
    known = [resolve("dataset=folder").model_dump()]
    known += [resolve(f"method={m}").model_dump() for m in sorted(methods)]
    for objective in ("tokens", "pixels", "hybrid"):
        given = [f"objective={objective}"]
        planned = jobs.of(given, kind=config.PretrainRun)
        known += [cfg.model_dump() for cfg in planned.configurations]
    mentioned = set(re.findall(r"`([A-Za-z_.]+)=[^` ]*`", EVERYTHING))
    mentioned = {k.removeprefix("run.") for k in mentioned}  # the run's own, of `beitmed validate`
    mentioned |= set(
        re.findall(
            r"`((?:cache|data|train|evaluate|lora|pretrain|objective)\.(?!json|py)[a-z_]+)`",
            EVERYTHING,
        )
    )
    mentioned = {k for k in mentioned - own if not k.startswith("hydra.")}  # Hydra's own
    assert {k for k in mentioned if not any(_has(v, k) for v in known)} == set()


def _has(values: dict, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def test_the_rooms_of_the_code_are_those_of_the_page():
    source = REPOSITORY / "src" / "beitmed"
    page = PAGES["docs/architecture.md"]
    named = set(re.findall(r"`([a-z_]+(?:/|\.py))`", page))
    folders = {f"{p.parent.name}/" for p in source.glob("*/__init__.py")}
    modules = {p.name for p in source.glob("[a-z]*.py")}
    assert named - {"conf/"} == folders | modules
