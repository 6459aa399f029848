"""Intervals, tests and calibration of numbers alone: NumPy and SciPy, no file and no torch."""
