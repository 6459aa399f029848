"""The transfer of a backbone: the trunk computed once, the top trained on what it gave."""
