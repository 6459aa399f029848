"""Names, types and rules of the configuration; its values are in `conf/`. Imports no torch."""

from beitmed.config.compose import conf_dir, register_resolvers, resolve
from beitmed.config.identity import (
    as_yaml,
    changed,
    differences,
    digest,
    evaluation,
    identity,
    keys,
    run_name,
    variant,
    without_fold,
)
from beitmed.config.overrides import check_read
from beitmed.config.pretrain import PretrainRun
from beitmed.config.run import CacheConfig, Config, DataConfig, check, unknown_key

__all__ = [
    "CacheConfig",
    "Config",
    "DataConfig",
    "PretrainRun",
    "as_yaml",
    "changed",
    "check",
    "check_read",
    "conf_dir",
    "differences",
    "digest",
    "evaluation",
    "identity",
    "keys",
    "register_resolvers",
    "resolve",
    "run_name",
    "unknown_key",
    "variant",
    "without_fold",
]
