#!/usr/bin/env bash
# Set up a Slurm and a Ray of this machine alone, and run the tests of sweeps on real engines;
# arguments are pytest's. Installs Debian's slurmctld, slurmd and slurm-client where they are
# missing, which needs root, and Ray into an environment of its own (400 MB).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_into_environment test

scratch=$(mktemp -d)
cleanup() {
    bash scripts/slurm.sh stop "$scratch/slurm"
    rm -rf "$scratch"
}
trap cleanup EXIT

if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install --quiet --yes \
        --no-install-recommends slurmctld slurmd slurm-client
fi
eval "$(bash scripts/slurm.sh start "$scratch/slurm")"

# Ray's launcher wants another cloudpickle than joblib does. All else is read from the environment
# of the tests, which saves a second PyTorch; its own packages come first.
below=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$venv/bin/python" -m venv "$scratch/ray"
"$scratch/ray/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints-ray.txt hydra-ray-launcher joblib
own=$("$scratch/ray/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\nimport site; site.addsitedir("%s")\n' "$below" "$below" >"$own/below.pth"

export BEITMED_RAY_PYTHON="$scratch/ray/bin/python" BEITMED_REQUIRE_ENGINES=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$venv/bin/python" -m pytest -m engine tests/test_engines.py "$@"
