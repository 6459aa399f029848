#!/usr/bin/env bash
# Install what the tests need and run them, two files at a time; arguments are pytest's. Tests
# marked `slow` are left out, unless a `-m` among the arguments says otherwise.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_into_environment test

# One thread each: two test processes share two cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadfile -m "not slow" "$@"
