"""Processes that share the computation of one run, on one machine; PyTorch calls them ranks."""
