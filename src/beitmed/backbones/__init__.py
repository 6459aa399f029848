"""The networks: a frozen trunk and a trained top of any family, and where weights come from."""
