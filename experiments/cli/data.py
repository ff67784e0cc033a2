"""Flags of the data: drawn, a user's own, or of the study."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

import lvm_jax
from experiments.cli.definitions import define_list, refuse
from lvm_jax.types import Dataset

MAX_SAMPLES = 10_000_000  # that a machine has memory to draw


class Drawn:
    """The flags of samples that are drawn."""

    def __init__(self, num_samples: int, held_out: int | None = None):
        """Defines the flags.

        Args:
          num_samples: default of the flag of that name.
          held_out: likewise.
        """
        self._data_seeds = define_list(
            "data_seed",
            [0],
            "Seed of what is drawn: samples, and truths or a held-out part. Several, "
            "separated by commas: a sweep on each, one table.",
            least=0,
        )
        self._num_samples = flags.DEFINE_integer(
            "num_samples",
            num_samples,
            "Samples to draw, held-out ones included, all at once.",
            lower_bound=3,
            upper_bound=MAX_SAMPLES,
        )
        self._held_out = flags.DEFINE_integer(
            "held_out",
            held_out,
            "Samples that are held out of training, of drawn ones the first: if not "
            "given 1000, or a tenth of fewer than 10 000.",
            lower_bound=1,
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """`--data_seed`.

        Raises:
          ValueError: if one is there twice.
        """
        seeds = tuple(map(int, self._data_seeds.value))
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                "expected data seeds without repeats, got "
                f"{', '.join(self._data_seeds.value)}"
            )
        return seeds

    @property
    def seed(self) -> int:
        """The only `--data_seed`.

        Raises:
          ValueError: if there are several.
        """
        seeds = self.seeds
        if len(seeds) > 1:
            raise ValueError(
                f"expected one data seed here, got {', '.join(map(str, seeds))}"
            )
        return seeds[0]

    @property
    def num_samples(self) -> int:
        """`--num_samples`."""
        return self._num_samples.value

    def split(self, seed: int) -> dict[str, int | None]:
        """Which samples are held out, as arguments of a family's `task`.

        Args:
          seed: of `--data_seed`.
        """
        return {"num_held_out": self._held_out.value, "split_seed": seed}


class Own(Drawn):
    """The flags of samples that are drawn, or are a user's own."""

    def __init__(self, num_samples: int = 10_000):
        """Defines the flags.

        Args:
          num_samples: default of `--num_samples`.
        """
        super().__init__(num_samples)
        self._samples = flags.DEFINE_string(
            "samples",
            None,
            "Own samples, one in each row: .csv, .txt, .npy or .npz. A random part of "
            "them, by --data_seed, is held out.",
        )
        self._truth = flags.DEFINE_string(
            "truth", None, "The true model of --samples, if it is known."
        )

    @property
    def is_own(self) -> bool:
        """Whether `--samples` are given.

        Raises:
          ValueError: if the flags do not go together.
        """
        if self._samples.value is None:
            if self._truth.value is not None:
                raise ValueError("expected --samples with --truth, got none")
            return False
        refuse("--samples", "dataset", "data_dir", "num_samples")
        return True

    def own(self, read_truth: Callable[[str], Any]) -> Dataset:
        """The data set of `--samples` and `--truth`.

        Raises:
          ValueError: if a file is malformed.
          OSError: if a file cannot be read.
        """
        path = pathlib.Path(self._samples.value)
        name = os.fsencode(path.stem).decode(errors="replace")
        truth = self._truth.value
        if truth is not None:
            truth = read_truth(truth)
        return Dataset(name, lvm_jax.read_samples(path), truth)

    def names(self) -> list[str] | None:
        """Of the variables of `--samples`, in its header; None if there are none."""
        return lvm_jax.read_names(self._samples.value) if self.is_own else None


class Data(Own):
    """The flags of a data set of the study, drawn or read, or of own samples."""

    def __init__(self, dataset: str | None, description: str):
        """Defines the flags.

        Args:
          dataset: default of `--dataset`.
          description: what `--dataset` may be.
        """
        super().__init__()
        self._dataset = flags.DEFINE_string("dataset", dataset, description)
        self._data_dir = flags.DEFINE_string(
            "data_dir",
            None,
            "The study's published release, to read data sets from, with "
            "noisyor/datasets or sparsecoding/datasets in it.",
        )

    @property
    def dataset(self) -> str | None:
        """`--dataset`."""
        return self._dataset.value

    @property
    def data_dir(self) -> str | None:
        """`--data_dir`."""
        return self._data_dir.value
