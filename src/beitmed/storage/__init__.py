"""Arrays and files on disk: written whole or not at all, read by rows, one process at a time."""
