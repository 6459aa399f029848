"""All tests of a run's methods, and what they come to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from beitmed.explain import (
    localisation,
    maps,
    network,
    randomisation,
    removal,
    repeatability,
    selection,
)
from beitmed.explain.attention import Rows
from beitmed.explain.choice import Choice
from beitmed.explain.maps import Question
from beitmed.explain.network import Network
from beitmed.explain.request import Request
from beitmed.explain.tested import Result, Tested, cell_maps
from beitmed.trained import Trained

log = logging.getLogger(__name__)
TESTS = ("deletion", "insertion", "randomisation", "repeatability", "localisation")
_SEED = 0


@dataclass(frozen=True)
class Evidence:
    """What the tests found, by method and test, and on which images of the split."""

    results: Mapping[str, Mapping[str, Result]]
    indices: np.ndarray
    patients: int | None

    def passes(self, name: str) -> bool:
        """Whether a method passes every test that could be made."""
        return all(result.passes is not False for result in self.results[name].values())

    def verdict(self, name: str) -> str:
        """The same in words: "passes 4 of 4 tests", "FAILS 1 of 4 tests (deletion)"."""
        made = {k: r.passes for k, r in self.results[name].items() if r.passes is not None}
        failed = [test for test, passed in made.items() if not passed]
        if not failed:
            return f"passes {len(made)} of {len(made)} tests"
        return f"FAILS {len(failed)} of {len(made)} tests ({', '.join(failed)})"

    def numbers(self, name: str) -> str:
        """What each test of a method found: "deletion 0.06 [0.00, 0.12], insertion ...".

        Of deletion and insertion the smaller gain, of the others a rank correlation or a ROC area.
        """
        made = self.results[name].items()
        return ", ".join(f"{test} {r.in_numbers()}" for test, r in made if r.passes is not None)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "images": len(self.indices),
            "patients": self.patients,
            "indices": self.indices.tolist(),
            "methods": {
                name: {
                    "passes": self.passes(name),
                    "verdict": self.verdict(name),
                    "numbers": self.numbers(name),
                    **{test: result.as_dict() for test, result in of_tests.items()},
                }
                for name, of_tests in self.results.items()
            },
        }


def gather(asked: Network, request: Request, rows: Rows | None) -> Evidence:
    """Test the methods of a request on images of the split; rows: whose attention is shown."""
    choice, found, names = request.choice, request.found, request.names
    split, indices = found.data.splits[choice.split], selection.tested(choice, found)
    images = np.asarray(split.images[indices])
    pixels = asked.pixels(images)
    target = targets(choice, found, asked.answer(pixels))
    baseline = maps.baseline(asked, images, choice.baseline)
    question = Question(target, baseline, request.layer, rows)
    masks, groups = selection.masks(choice, split), split.groups
    log.info("testing %d methods on %d images ...", len(names), len(indices))
    tested = Tested(
        asked, images, pixels, question,
        None if groups is None else np.asarray(groups)[indices],
        None if masks is None else masks[indices],
        cell_maps(asked, pixels, names, question),
    )  # fmt: skip
    log.info("  deletion and insertion ...")
    removed = removal.test(tested, _SEED)
    log.info("  randomisation, part by part ...")
    redrawn, random = randomisation.test(tested, _SEED)
    log.info("  repeatability ...")
    again = [network.of_model(other.model, found.task.several_labels) for other in request.others]
    by_test = {
        **removed,
        "randomisation": redrawn,
        "repeatability": repeatability.test(tested, again, _SEED),
        "localisation": localisation.test(tested, random),
    }
    results = {name: {test: by_test[test][name] for test in TESTS} for name in names}
    patients = None if tested.groups is None else len(np.unique(tested.groups))
    return Evidence(results, indices, patients)


def targets(choice: Choice, found: Trained, logits: torch.Tensor) -> torch.Tensor:
    """The class that each image's maps are of, int [n]: the named one, or the predicted.

    Where an image has several labels, the one with the highest log odds.
    """
    named = choice.target_class(found.class_names)
    return logits.argmax(1) if named is None else torch.full_like(logits[:, 0], named).long()
