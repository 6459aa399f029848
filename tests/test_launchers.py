"""Launchers: which runs they get, what a sweep came to as the files tell it, shared machines."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FAST, REPOSITORY, beitmed, resolve

from beitmed import console, threads
from beitmed.commands import jobs
from beitmed.config import Config, PretrainRun
from beitmed.errors import UserError
from beitmed.runs import failures
from beitmed.sweeps import fills
from beitmed.sweeps.outcomes import Outcome, Records
from beitmed.sweeps.work import Origin, Work

MAJORITY = (*FAST[:2], "method=majority", "evaluate.n_resamples=100")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launcher=joblib"], "launcher: found joblib without -m"),
        (["-m", "launcher=joblib,local"], "launcher=joblib,local: a sweep has one launcher"),
        (["-m", "launcher=pbs"], "joblib"),  # among those that there are
        (["-m", "launcher=joblib", "hydra.launcher.n_job=3"], "hydra.launcher.n_job: no such key"),
        (["-m", "launcher=slurm"], "launcher=slurm: sbatch is not found here"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused_before_anything_is_written(arguments, said, tmp_path):
    done = beitmed(*arguments, *MAJORITY, cwd=tmp_path, env={"PATH": ""})
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_disk_on_which_not_even_a_record_can_be_written_is_called_full(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "beitmed", "train", "-m", *MAJORITY, "seed=1,2"], cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "beitmed: outputs: no space left while writing" in done.stderr


def test_a_pre_training_has_the_same_launchers(tmp_path):
    asked = ("-m", "launcher=slurm", "dataset=breast", "seed=1,2")
    done = beitmed(*asked, module="pretrain", cwd=tmp_path, env={"PATH": ""})
    assert done.returncode == 2 and "launcher=slurm: sbatch is not found here" in done.stderr
    assert not list(tmp_path.glob("pretrained/*"))
    planned = jobs.of(["-m", "launcher=joblib", "seed=1,2"], kind=PretrainRun)
    assert planned.launcher.parallel and planned.kind is PretrainRun


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is not None, reason="Ray is installed in this environment"
)
def test_a_launcher_whose_plugin_is_missing_names_the_extra_that_brings_it(tmp_path):
    done = beitmed("-m", "launcher=ray", *MAJORITY, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install '.[ray]'" in done.stderr


def test_a_launcher_of_the_users_own_is_a_yaml_file(tmp_path):
    (tmp_path / "conf" / "launcher").mkdir(parents=True)
    (tmp_path / "conf" / "launcher" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - joblib\nhydra:\n  launcher:\n    n_jobs: 3\n"
    )
    planned = jobs.of(
        ["-m", "--config-dir", str(tmp_path / "conf"), "launcher=ours", *MAJORITY, "seed=1,2"]
    )
    assert planned.launcher.name == "ours" and planned.launcher.parallel


# ---- what a sweep came to


def test_what_a_run_came_to_is_told_from_its_files(tmp_path):
    records, cfg = Records.create(tmp_path), resolve(*MAJORITY, f"output_dir={tmp_path}")
    assert records.outcome(cfg) == Outcome("not started")
    records.begun(cfg)
    assert records.outcome(cfg) == Outcome("stopped")
    records.failed(cfg, failures.write(cfg, None, UserError("why"), "beitmed train"), "why")
    assert records.outcome(cfg) == Outcome("failed", "why")
    records.finished(cfg, tmp_path / "run")
    assert records.outcome(cfg) == Outcome("stopped")  # it says so, but has no metrics
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").touch()
    assert records.outcome(cfg) == Outcome("finished")
    assert records.outcome(resolve(*MAJORITY, "seed=7")) == Outcome("not started")


def test_a_bug_is_listed_with_the_file_that_has_its_traceback(tmp_path):
    records, cfg = Records.create(tmp_path), resolve(*MAJORITY, f"output_dir={tmp_path}")
    try:
        [][0]
    except IndexError as e:
        file = failures.write(cfg, None, e, "beitmed train seed=42")
    records.failed(cfg, file, "")
    reason = records.outcome(cfg).reason
    assert reason.startswith("IndexError: list index out of range") and str(file) in reason
    kept = failures.read(file)
    assert "Traceback" in kept.traceback and "[][0]" in kept.traceback and kept.bug
    assert kept.command == "beitmed train seed=42"


def test_a_failure_stands_until_an_attempt_succeeds(tmp_path, medmnist_folder):
    data = ("data.download=false", "data.allow_unofficial=true")
    asked = ("-m", "dataset=phantom,breast", *MAJORITY[1:], *data)
    first = beitmed(*asked, f"data.root={tmp_path}/nowhere", cwd=tmp_path)
    assert first.returncode == 1
    [_, listed] = first.stdout.split("beitmed: 1 of the sweep's runs failed:")
    assert "dataset=breast" in listed and "dataset=phantom" not in listed
    assert "nowhere" in listed and listed.rstrip().endswith("finished runs are skipped.")
    [file] = tmp_path.glob("outputs/.failures/*.json")
    kept = failures.read(file)
    assert kept.message in listed.replace("\n    ", "\n") and not kept.bug
    assert kept.command.startswith("beitmed train dataset=breast data.limit=8")
    assert not list(tmp_path.glob("outputs/.sweep/*"))

    again = beitmed(*asked, f"data.root={medmnist_folder}", cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("finished before") == 1
    # The same run, whose images have come to the place where they were missing.
    (tmp_path / "nowhere").symlink_to(medmnist_folder)
    third = beitmed(*asked, f"data.root={tmp_path}/nowhere", cwd=tmp_path)
    assert third.returncode == 0 and not (tmp_path / "outputs" / ".failures").exists()


def test_a_run_that_fails_after_its_training_says_why_in_its_folder(tmp_path):
    metric = tmp_path / "own.py"
    # The made-up cases that it is tried on before are eight.
    metric.write_text(
        "def score(labels, logits):\n"
        "    if len(labels) > 8:\n"
        "        raise ValueError('not today')\n"
        "    return 0.5\n"
    )
    asked = (*MAJORITY, "evaluate.metrics={mine: own.score}")
    done = beitmed(*asked, cwd=tmp_path)
    assert done.returncode == 2 and "not today" in done.stderr
    [file] = tmp_path.glob("outputs/*/failure.json")
    assert "not today" in failures.read(file).message
    metric.write_text("def score(labels, logits):\n    return 0.5\n")
    assert beitmed(*asked, cwd=tmp_path).returncode == 0
    assert not file.exists() and (file.parent / "metrics.json").exists()


def test_a_damaged_record_is_a_message(tmp_path):
    (tmp_path / "failure.json").write_text('{"error": "x"}')
    with pytest.raises(UserError, match=r"failure\.json: is no record of a failure"):
        failures.read(tmp_path / "failure.json")


# ---- fills


def chosen(*command_line: str) -> list[str]:
    planned = jobs.of(["-m", "backbone=beit_tiny", *command_line])
    return [" ".join(planned.each[i][1:]) for i in fills.first(planned.configurations)]


def test_each_entry_that_runs_share_is_filled_by_one_of_them():
    assert chosen("seed=1,2,3", "unfreeze=2") == ["seed=1 unfreeze=2"]
    assert chosen("unfreeze=1,2", "seed=1,2") == ["unfreeze=1 seed=1", "unfreeze=2 seed=1"]
    assert chosen("dataset=breast,pneumonia", "balanced=true,false") == [
        "dataset=breast balanced=True", "dataset=pneumonia balanced=True"
    ]  # fmt: skip
    features = "method=features_knn,features_logistic"
    assert chosen(features) == ["method=features_knn"]
    assert chosen("seed=1") == chosen("dataset=breast,pneumonia") == []
    assert chosen("seed=1,2", "features=live") == chosen("seed=1,2", "unfreeze=all") == []
    assert chosen("seed=1,2", "method=majority") == []


def test_depths_that_one_pass_fills_are_one_entry():
    assert chosen("unfreeze=1,2", "seed=1,2", "cache.depths=[1,2]") == [
        "unfreeze=1 seed=1 " + "cache.depths=[1,2]"
    ]


def test_images_of_ones_own_are_converted_once(tmp_path):
    own = (f"dataset.path={tmp_path}", "dataset=folder", "method=majority,resnet18")
    assert len(chosen(*own)) == 1


def test_unlabelled_images_that_pre_trainings_share_are_converted_once():
    asked = ["-m", "pretrain.images=a,b", "seed=1,2", "objective=pixels,hybrid"]
    planned = jobs.of(asked, kind=PretrainRun)
    assert len(planned.found) == 8 and fills.first(planned.configurations) == [0, 4]
    assert fills.first(jobs.of(["-m", "seed=1,2"], kind=PretrainRun).configurations) == []


# ---- workers


def test_a_task_makes_a_process_its_own_whatever_it_did_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    task = Work(Origin.here(), False, Config, Records(tmp_path / "records"))
    assert pickle.loads(pickle.dumps(task)) == task  # as its class's name and plain values
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", sys.path[1:])
    from hydra import compose, initialize_config_dir

    from beitmed import config

    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=list(MAJORITY))
    assert task.enter(composed) == resolve(*MAJORITY)
    assert Path.cwd() == tmp_path and "" in sys.path


def test_the_console_says_each_line_once_and_which_run_it_is_of(capsys):
    try:
        console.install("[1] ")
        console.install("[2] ")
        logging.getLogger("beitmed.any").info("done")
        assert capsys.readouterr().out == "[2] done\n"
    finally:
        console.install()


# ---- threads


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_what_a_container_is_allowed_is_read_from_its_control_group(files, cores, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.quota(tmp_path) == cores


def shared(monkeypatch, **variables: str) -> dict[str, str]:
    for name in [n for n in os.environ if "OMP_" in n or n.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    threads.share()
    return {n: v for n, v in os.environ.items() if "OMP_" in n and "BEITMED" not in n}


def test_waiting_threads_spin_for_a_moment_unless_the_user_has_said_otherwise(monkeypatch):
    spins = str(threads.SPINS)
    assert shared(monkeypatch)["GOMP_SPINCOUNT"] == spins
    for name, value in (("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "5")):
        found = shared(monkeypatch, **{name: value})
        assert found[name] == value and found.get("GOMP_SPINCOUNT") != spins


def test_threads_are_no_more_than_a_task_of_slurm_has_and_the_users_number_stands(monkeypatch):
    assert shared(monkeypatch, SLURM_CPUS_PER_TASK="3")["OMP_NUM_THREADS"] == "3"
    threads.share()  # again, as a worker does
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")  # what was chosen there is not kept here
    threads.share()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    found = shared(monkeypatch, SLURM_CPUS_PER_TASK="3", OMP_NUM_THREADS="6")
    assert found["OMP_NUM_THREADS"] == "6"
    assert "OMP_NUM_THREADS" not in shared(monkeypatch)


def test_threads_are_chosen_before_torch_is_there():
    code = "import sys, os; from beitmed.commands import front, train, cli; cli.guarded(lambda: 0)"
    code += "; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    import subprocess

    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT",)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=environment, check=True)  # fmt: skip
    assert done.stdout.split() == ["False", str(threads.SPINS)]


def test_rays_constraints_are_the_others_but_for_what_it_cannot_have():
    pinned = {}
    for name in ("constraints.txt", "constraints-ray.txt"):
        lines = (REPOSITORY / name).read_text().splitlines()
        pairs = [line.split("==") for line in lines if "==" in line]
        pinned[name] = {key.lower().replace("_", "-"): value for key, value in pairs}
    usual, rays = pinned["constraints.txt"], pinned["constraints-ray.txt"]
    differing = {f"{name}=={v}" for name, v in usual.items() if rays.get(name) != v}
    assert {line.split("==")[0] for line in differing} == {
        "cloudpickle", "joblib", "python-dateutil"
    }, f"add to constraints-ray.txt what is new of {differing}"  # fmt: skip
    assert int(rays["cloudpickle"].split(".")[0]) < 3
