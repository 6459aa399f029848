"""What can be configured of a dataset: MedMNIST's, the synthetic one, or images of one's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from beitmed import tasks
from beitmed.config.fields import Count, Decides, Finite, Ratio, Seed, Strict, Triple, Word

#: "auto" is of `source: folder` only, and until the labels were read: `folder_data.complete`.
if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = Literal[(*tasks.TASKS, "auto")]
Name = Annotated[str, Field(min_length=1)]


class Recipe(Strict):
    """The paper's settings for one dataset with or without balancing."""

    batch_size: Count
    weight_decay: Finite
    majority_ratio: Ratio | None


class Recipes(Strict):
    full: Recipe
    balanced: Recipe | None  # None where there is no such thing as a balanced train split


class Columns(Strict):
    """A table's columns; None: the column of the key's own name, where the table has it.

    What stands in the first four is in the digest `content`. subgroups: those by whose values a
    test set is taken apart.
    """

    path: Annotated[Name, Decides.NOTHING] = "path"
    label: Annotated[Name, Decides.NOTHING] = "label"
    split: Annotated[Name | None, Decides.NOTHING] = None
    patient: Annotated[Name | None, Decides.NOTHING] = None
    subgroups: Annotated[list[Name], Decides.EVALUATION] = Field(default_factory=list)


class OwnImages(Strict):
    """The keys of `source: folder`; see `conf/dataset/folder.yaml` for what they mean."""

    path: Annotated[Name | None, Decides.NOTHING] = None  # what lies there is in `content`
    image_root: Annotated[Name | None, Decides.NOTHING] = None
    columns: Columns = Columns()
    separator: Name = "|"
    none_label: Name | None = None
    classes: list[Name] | None = None
    positive_class: Annotated[str | int | None, Decides.EVALUATION] = None
    fractions: Triple = Field(default=[0.7, 0.1, 0.2])
    split_seed: Seed = 0
    fit: Literal["pad", "crop", "squash"] = "pad"
    intensity: Literal["dtype", "minmax"] = "dtype"
    min_side: Count = 28
    content: str | None = None

    @model_validator(mode="after")
    def _shares_of_one(self) -> OwnImages:
        if min(self.fractions) <= 0 or not math.isclose(sum(self.fractions), 1, abs_tol=1e-6):
            raise ValueError(
                f"dataset.fractions: found {self.fractions}; allowed: three shares above 0, of "
                "train, val and test, that sum to 1"
            )
        return self


class DatasetConfig(OwnImages):
    name: Word
    source: Literal["medmnist", "phantom", "folder"]
    flag: str | None
    task: TaskName
    positive_label: Annotated[Literal[0, 1] | None, Decides.EVALUATION]
    phantom_seed: Seed | None = None
    #: Of the source, where no file says which images are of one patient or lesion.
    several_images_per_patient: Annotated[bool, Decides.NOTHING] = False
    #: Whether an image's mirror image could be one of the same diagnosis.
    flip: Annotated[bool, Decides.NOTHING] = False
    recipe: Annotated[Recipes, Decides.NOTHING]  # what it chose is in `train`, `majority_ratio`

    def unused(self) -> set[str]:
        return set() if self.own else set(OwnImages.model_fields)

    @property
    def synthetic(self) -> bool:
        return self.source == "phantom"

    @property
    def own(self) -> bool:
        """Whether the images are the user's own."""
        return self.source == "folder"

    @model_validator(mode="after")
    def _rules(self) -> DatasetConfig:
        if self.task == "auto" and not self.own:
            raise ValueError(
                f"dataset.task: found auto with source {self.source!r}; allowed: "
                + ", ".join(tasks.TASKS)
            )
        # Of own images the labels decide both, once they are read.
        if not self.own:
            has_positive = tasks.of(self.task).has_positive
            if has_positive != (self.positive_label is not None):
                raise ValueError(
                    f"dataset.positive_label: found {self.positive_label}, but task {self.task} "
                    f"needs {'0 or 1' if has_positive else 'null'}"
                )
        if (self.source == "medmnist") != (self.flag is not None):
            raise ValueError(
                f"dataset.flag: found {self.flag!r} with source {self.source!r}; a medmnist "
                "dataset names its flag, such as breastmnist, any other has null"
            )
        return self
