"""External testing: a finished run on data that had no part in its making."""
