"""Where a trained network's attention goes: `python -m beitmed.explain RUN_FOLDER`."""
