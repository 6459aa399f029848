"""How a report is set: one HTML page, Markdown, LaTeX, CSV, and the folder that holds them."""
