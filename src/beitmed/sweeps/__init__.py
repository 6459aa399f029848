"""Sweeps: what a worker does of one, which cache entries are filled first, what it came to."""
