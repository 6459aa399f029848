"""The figures of a run; no other module but those of audit and report draws."""
