"""What can be fitted to a train split: a backbone's top layers, or a baseline."""
