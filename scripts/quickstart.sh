#!/usr/bin/env bash
# Install and run the main job, offline once installed: synthetic images, a small random BEiT.
# Arguments are passed on, so any experiment can be run: scripts/quickstart.sh dataset=breast ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_into_environment ""

case " $* " in
*" experiment="*) exec "$venv/bin/python" -m beitmed.train "$@" ;;
*) exec "$venv/bin/python" -m beitmed.train experiment=quickstart "$@" ;;
esac
