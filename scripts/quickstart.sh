#!/usr/bin/env bash
# Install, and run what the arguments ask for as `beitmed train` does. Without arguments: synthetic
# images and the small BEiT in the package, which need no network once everything is installed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_into_environment ""

if [ $# -eq 0 ]; then
    set -- experiment=quickstart
fi
exec "$venv/bin/python" -m beitmed train "$@"
