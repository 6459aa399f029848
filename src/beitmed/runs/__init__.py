"""Run folders: what stands in one, and finished ones read back."""
