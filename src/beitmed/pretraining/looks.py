"""What is looked at while a network learns: held-out images, and what its features tell of labels.

Labels are read here and nowhere else of a pre-training: those of train fit the probe, those of val
judge it. Nothing is chosen by it, and `pretrain.probe=none` reads none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from beitmed import tasks
from beitmed.backbones import compute
from beitmed.config import PretrainRun
from beitmed.methods import linear, neighbors
from beitmed.pretraining import batches
from beitmed.pretraining.network import MaskedNetwork
from beitmed.pretraining.sources import Labelled, Pool, Source
from beitmed.ranks import together
from beitmed.storage.rows import Rows
from beitmed.training import shares

_PROBED = 2000  # images of a split, from its start
_AT_ONCE = 32  # images of a pass; another number may move the last digits, and a word with them
_NEIGHBORS = 20


class Looks:
    """What is seen of a network, by name, at any time."""

    def __init__(self, cfg: PretrainRun, network: MaskedNetwork, sources: Sequence[Source]) -> None:
        self.cfg, self.network = cfg, network
        self.held = Pool([source.held for source in sources])
        self.labelled = [s.labelled for s in sources if s.labelled is not None]

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """held_out_<part> of the loss; val_auc_<set> of a probe, NaN where that is undefined."""
        self.network.eval()
        sums: dict[str, float] = {}
        for n, values in self._held_out():
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + n * value
        found = {f"held_out_{name}": total / len(self.held) for name, total in sums.items()}
        if self.cfg.pretrain.probe != "none":
            found |= {f"val_auc_{one.cfg.dataset.name}": self._probe(one) for one in self.labelled}
        return found

    def _held_out(self) -> list[tuple[int, dict[str, float]]]:
        """How many images each batch has, and the parts of its loss; in ranks each finds some."""
        mine = []
        size, ranks = self.cfg.train.batch_size, together.count()
        for i, batch in enumerate(batches.held_out(self.cfg, self.held, self.network.side, size)):
            if i % ranks == together.index():
                found = {name: float(value) for name, value in self._passed(batch).items()}
                mine.append((len(batch["images"]), found))
        each = together.gathered(mine)
        return [each[i % ranks][i // ranks] for i in range(sum(map(len, each)))]

    def _passed(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self.network.head.weight.device
        with compute.autocast(self.cfg, device):
            return self.network(**_to(batch, device))

    def _probe(self, labelled: Labelled) -> float:
        train, val = (self.features(split.images) for split in (labelled.train, labelled.val))
        y, actual = (split.labels[:_PROBED] for split in (labelled.train, labelled.val))
        if self.cfg.pretrain.probe == "linear":
            logits = linear.probe(train, y, val, labelled.classes)
        else:
            logits = neighbors.probe(train, y, val, labelled.classes, _NEIGHBORS)
        task = tasks.of(labelled.cfg.dataset.task)
        auc = task.score(logits, actual, labelled.cfg.dataset.positive_label)["auc"]
        return float("nan") if auc is None else auc

    def features(self, images: Rows | np.ndarray) -> np.ndarray:
        """float32 [n, pooled] of the first images."""
        device = self.network.head.weight.device

        def pooled(part: torch.Tensor) -> np.ndarray:
            with compute.autocast(self.cfg, device):
                return self.network.pooled(part.to(device)).float().cpu().numpy()

        return _of_all(Pool([images[:_PROBED]]), pooled)


def _of_all(pool: Pool, find: Callable[[torch.Tensor], np.ndarray]) -> np.ndarray:
    """What is found of all images, a few at a time; in ranks each finds some."""
    mine = shares.rows(len(pool), _AT_ONCE)
    parts = [find(pool.take(mine[a : a + _AT_ONCE])) for a in range(0, len(mine), _AT_ONCE)]
    return shares.joined(np.concatenate(parts) if parts else None, len(pool), _AT_ONCE)


def _to(values: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {
        name: _to(value, device) if isinstance(value, dict) else value.to(device)
        for name, value in values.items()
    }


@torch.no_grad()
def words(network: MaskedNetwork, pool: Pool) -> np.ndarray:
    """The visual words of all images as they are, unsigned integers [n, patches], once."""
    device, small = network.head.weight.device, np.min_scalar_type(network.head.out_features - 1)
    return _of_all(pool, lambda part: network.codes(part.to(device)).cpu().numpy().astype(small))
