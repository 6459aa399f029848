"""Pre-training without labels: what is masked, what is predicted, what is kept of it."""
