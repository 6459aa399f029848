"""From finished runs to a paper's tables and figures: `python -m beitmed.report FOLDER ...`."""
