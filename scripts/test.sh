#!/usr/bin/env bash
# Install what the tests need and run them, two at a time; arguments are pytest's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_into_environment test

# One thread each: two test processes share two cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest --numprocesses 2 -m "not slow" "$@"
