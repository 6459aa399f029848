"""Every figure, at the width of a page and of a column: from arrays to a matplotlib figure."""
