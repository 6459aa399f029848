# Sourced by the scripts beside it: makes ./.venv, or $BEITMED_VENV, and installs into it.
# install_into_environment EXTRAS: pip-install the project, editable, with pinned versions. Done
# again only when what it depends on has changed.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${BEITMED_VENV:-.venv}"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "beitmed needs Python 3.11 or newer; set PYTHON to one." >&2
    return 2
}

install_into_environment() {
    local extras="$1" wanted stamp
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    # What the tests need includes what a run needs.
    for stamp in "$venv/.beitmed-$extras" "$venv/.beitmed-test"; do
        if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            return
        fi
    done
    if [ ! -x "$venv/bin/python" ]; then
        local python
        python=$(find_python) || exit 2
        "$python" -m venv "$venv"
    fi
    echo "Installing into $venv; PyTorch makes this a download of gigabytes the first time."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extras:+[$extras]}"
    echo "$wanted" >"$venv/.beitmed-$extras"
}
