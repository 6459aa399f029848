"""Names, types and rules of the configuration; its values are in `conf/`. Imports no torch."""

from beitmed.config.run import (
    CacheConfig,
    Config,
    DataConfig,
    check,
    check_given,
    conf_dir,
    identity,
    register_resolvers,
    resolve,
    run_name,
    unknown_key,
    with_backbone,
    without_locations,
)

__all__ = [
    "CacheConfig",
    "Config",
    "DataConfig",
    "check",
    "check_given",
    "conf_dir",
    "identity",
    "register_resolvers",
    "resolve",
    "run_name",
    "unknown_key",
    "with_backbone",
    "without_locations",
]
