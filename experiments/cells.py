"""Every run of the study: the commands that make the tables that claims are decided on.

A cell is one command and the tables that it leaves. Rules, seeds and epochs are those
of experiments/noisy_or.md, sparse_coding.md, neural_pcfg.md, dynamics.md and
recurring.md; a budget takes fewer.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from experiments.noise_claims import DATASETS as NOISE
from experiments.noise_claims import ESTIMATORS
from experiments.noisy_or_claims import DATASETS as FIVE
from experiments.noisy_or_claims import KINDS
from experiments.recurring_claims import HARD
from experiments.surplus_claims import DATASETS as SURPLUS
from experiments.surplus_claims import TIMES

_PUBLISHED = ("IMG", "PLNT", "CON8")  # whose samples are the authors'
_AT = ",".join(map(str, TIMES))
# NVIL first, which the others are compared with, and batches of 80 apart.
_ESTIMATORS = tuple(name for name in ESTIMATORS if name != "batch80")
# What a run-epoch takes against NVIL's, roughly.
_WEIGHTS = {
    **{"mean_field": 60, "em": 200, "rloo8": 4, "local_expectation": 5},
    **{"batched": 450, "faithful": 3000},
}
# Flags of true grammars, all but those of the length of sentences.
_GRAMMARS = {
    "R0": {"grammar": "random"},
    "R1": {"grammar": "random", "data_seed": "1"},
    "R2": {"grammar": "random", "data_seed": "2"},
    "E": {"grammar": "english"},
    "F": {"grammar": "random", "sharpness": "1"},
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A command and its tables.

    Attributes:
      part: of the study.
      name: of its workdir and of its table.
      binary: module of experiments.
      flags: values by name, {workdir} in them for the folder of all workdirs.
      tables: file of the workdir -> name of the table; "" for what it writes itself.
      runs: how many, where flags do not say; none of what reads those of others.
      measured: what it measures costs, beside what it trains.
    """

    part: str
    name: str
    binary: str
    flags: Mapping[str, str]
    tables: Mapping[str, str]
    runs: int | None = None
    measured: float = 0.0

    @property
    def num_runs(self) -> int:
        """Runs of all levels, settings and data sets."""
        if self.runs is not None:
            return self.runs
        swept = ("levels", "rate", "at", "step_size", "guard")
        counts = [len(self._list(name)) for name in swept]
        counts += [len(self._list("data_seed")), int(self.flags.get("num_seeds", 16))]
        return math.prod(counts)

    def _list(self, name: str) -> list[str]:
        default = "8,16,32" if name == "levels" else "0"
        return self.flags.get(name, default).split(",")

    @property
    def cost(self) -> float:
        """Run-epochs of 16 latents on 9000 samples that it is worth, roughly."""
        levels = [int(level) for level in self._list("levels")]
        sizes = [0.5 + level / 32 for level in levels]
        samples = int(self.flags.get("num_samples", 10_000)) / 10_000
        kind = self.flags.get("learner", self.flags.get("estimator", ""))
        epochs = int(self.flags.get("epochs", 3))
        if "grammar" in self.flags:
            sizes = [(level / 16) ** 2 for level in levels]
            kind = self.flags.get("mode", "batched")
        size = sum(sizes) / len(sizes)
        trained = self.num_runs * epochs * size * samples * _WEIGHTS.get(kind, 1)
        return trained + self.measured


class Budget(NamedTuple):
    """How much of the rules is run.

    Attributes:
      num_seeds: at most, of each level.
      share: of the epochs of the cells of families of models.
      data_seeds: at most.
      num_samples: of drawn samples, or None for the rule's.
      is_one: whether each kind of cell is run on one data set alone, at two levels,
        what recurs for a few epochs, and no kind that decides what another does, too.
    """

    num_seeds: int
    share: float
    data_seeds: int
    num_samples: int | None
    is_one: bool

    def levels(self, rule: str, few: str = "8,16") -> str:
        """Those of a cell, by the rule or few."""
        return few if self.is_one else rule


BUDGETS = {
    "smoke": Budget(2, 0.02, 2, 1000, True),
    "laptop": Budget(8, 0.2, 4, None, False),
    "paper": Budget(1000, 1, 1000, None, False),
}


def _seeds(number: int, budget: Budget) -> str:
    return ",".join(map(str, range(min(number, budget.data_seeds))))


def _five(budget: Budget, data_dir: str | None) -> list[str]:
    """The study's data sets that are there: PLNT cannot be drawn."""
    five = FIVE[:1] if budget.is_one else FIVE
    return [name for name in five if name != "PLNT" or data_dir]


def _noisy_or(budget: Budget, data_dir: str | None) -> Iterator[Cell]:
    def cell(kind, dataset, num_seeds, epochs=None, **flags):
        flags = {"dataset": dataset, **flags}
        flags["num_seeds"] = str(min(num_seeds, budget.num_seeds))
        if budget.is_one:
            flags.setdefault("levels", "8,16")
        if epochs:
            flags["epochs"] = str(max(round(epochs * budget.share), 2))
        if budget.num_samples:
            # A batch has to fit, and other learners take longer.
            share = 2 if "batch_size" in flags else 0.5 if "learner" in flags else 1
            flags["num_samples"] = f"{share * budget.num_samples:.0f}"
        elif dataset in _PUBLISHED and data_dir and kind != "truths":
            flags["data_dir"] = data_dir
        name = f"{dataset}_{kind}"
        return Cell("noisy_or", name, "noisy_or", flags, {"kept.csv": name})

    five = _five(budget, data_dir)
    yield from (cell("main", name, 32, 1000) for name in five)
    for name in KINDS[:1] if budget.is_one else KINDS:
        yield cell("truths", name, 4, 300, data_seed=_seeds(16, budget))
    for name in five:
        yield cell("rates", name, 16, 300, rate="0.01,0.04,0.1")
        yield cell("mean_field", name, 32, learner="mean_field")
    levels = budget.levels("64,128", "64")
    yield from (cell("large", name, 16, 1000, levels=levels) for name in five)
    levels = budget.levels("8,9,10,16")
    yield cell("misspecified", "IMG-FLIP", 32, 1000, levels=levels)
    if not budget.is_one:
        yield cell("misspecified", "IMG-UNIF", 32, 1000, levels="8,9,16,32")
    for name in five:
        epochs = 2000 if name == "IMG" else 1000
        yield cell("batch1000", name, 32, epochs, batch_size="1000")
    yield from (cell("em", name, 4, 50, learner="em") for name in five)


def _dynamics(budget: Budget) -> Iterator[Cell]:
    def cell(name, binary="dynamics", **flags):
        flags = {"dataset": name.split("_")[0], "num_seeds": "64"} | flags
        flags["num_seeds"] = str(min(int(flags["num_seeds"]), budget.num_seeds))
        if budget.num_samples:
            flags["num_samples"] = str(budget.num_samples)
        return Cell("dynamics", name, binary, flags, {"kept.csv": name})

    traced = {"trace": "true", "levels": budget.levels("8,16,32,64")}
    yield cell("IMG_early", **traced, epochs="10", records_per_epoch="45")
    yield cell("IMG_late", **traced, epochs="200")
    course = {name: f"{{workdir}}/dynamics/IMG_{name}" for name in ("early", "late")}
    course["tables"] = "{workdir}/tables/dynamics"
    # Of all that it writes the last.
    yield Cell("dynamics", "course", "course_tables", course, {"": "starts"}, runs=0)
    yield cell("IMG_nearest", learner="nearest", levels="8", epochs="200")
    datasets = SURPLUS[:1] if budget.is_one else SURPLUS
    if not budget.is_one:
        yield cell("CON8_late", levels="8,16", epochs="200")
        yield cell("IMG_ten", levels="10", epochs="200")
    changes = {"renewed": "8", "pruned": "16", "grown": "16"}
    times = "1,10" if budget.is_one else _AT
    for name, (change, level) in itertools.product(datasets, changes.items()):
        yield cell(
            f"{name}_{change}", learner=change, at=times, levels=level, epochs="200"
        )
    for name in NOISE[:1] if budget.is_one else NOISE:
        of_noise = {"binary": "noise", "num_seeds": "32"}
        of_noise["levels"] = budget.levels("8,16,32", "8")
        for estimator in _ESTIMATORS[:2] if budget.is_one else _ESTIMATORS:
            of_one = {**of_noise, "estimator": estimator, "epochs": "100"}
            yield cell(f"{name}_{estimator}", **of_one)
        if not budget.is_one:
            of_large = {"estimator": "nvil", "batch_size": "80", "epochs": "400"}
            yield cell(f"{name}_batch80", **of_noise, **of_large)
            of = f"{name}_variances"
            yield Cell(
                "dynamics",
                of,
                "gradient_variances",
                {"dataset": name},
                {"variances.csv": of},
                runs=4,
                measured=3_000,
            )


def _recurring(budget: Budget, data_dir: str | None) -> Iterator[Cell]:
    def cell(dataset, size, num_data_seeds, epochs, name=None, **flags):
        flags |= {"dataset": dataset, "epochs": str(epochs)}
        if "data_dir" not in flags:
            flags["data_seed"] = _seeds(num_data_seeds, budget)
            flags["num_samples"] = str(size)
        flags["num_seeds"] = str(min(16, max(budget.num_seeds, 4)))
        if budget.is_one:
            flags.setdefault("levels", "8,16")
            flags["epochs"] = "10"
        name = name or f"{dataset}_{size}"
        tables = {"recurring.csv": name, "latents.csv": f"{name}_latents"}
        if "calibrate" in flags:
            tables = {"calibration.csv": name}
        return Cell("recurring", name, "recurring", flags, tables)

    levels = budget.levels("8,16,32,64")
    for kind in KINDS[1:2] if budget.is_one else KINDS:
        yield cell(kind, 1000, 16, 300, levels=levels)
        if not budget.is_one:
            for size, epochs in ((500, 600), (3000, 100), (10_000, 30)):
                yield cell(kind, size, 16, epochs, levels=levels)
    for name in _five(budget, data_dir):
        flags = {"study_rates": "true", "levels": levels}
        if name in _PUBLISHED and data_dir and not budget.num_samples:
            flags["data_dir"] = data_dir
        yield cell(name, budget.num_samples or 10_000, 1, 300, f"{name}_study", **flags)
    yield cell("INDEPENDENT", 1000, 8, 300, "INDEPENDENT")
    for kind in KINDS[1:2] if budget.is_one else KINDS[:2]:
        flags = {"calibrate": "2", "levels": levels}
        yield cell(kind, 1000, 4, 300, f"{kind}_calibration", **flags)
    for name in () if budget.is_one else HARD:
        yield cell(name, 1000, 4, 300, name)


def _sparse_coding(budget: Budget, data_dir: str | None) -> Iterator[Cell]:
    def cell(kind, num_seeds, epochs, gamma="10", **flags):
        flags["num_seeds"] = str(min(num_seeds, budget.num_seeds))
        flags["epochs"] = str(max(round(epochs * budget.share), 2))
        if budget.num_samples:
            flags["num_samples"] = str(budget.num_samples)
        of = {"gamma": gamma}
        if data_dir:
            of = {"dataset": f"gamma{gamma}", "data_dir": data_dir}
        name = f"gamma{gamma}_{kind}"
        return Cell(
            "sparse_coding", name, "sparse_coding", of | flags, {"kept.csv": name}
        )

    yield cell("main", 32, 2000, levels="24,48")
    yield cell("rates", 8, 1000, levels="48,96", step_size="0.1,0.3")
    if budget.is_one:
        return
    yield cell("main", 32, 2000, "5", levels="24,48")
    yield cell("guards", 8, 1000, levels="96", guard="0.001,0.01")
    yield cell("masked", 8, 1000, levels="96", learner="masked", hidden="0.2")
    yield cell("long", 8, 3000, levels="96")


def _neural_pcfg(budget: Budget) -> Iterator[Cell]:
    def cell(truth, kind, num_seeds, **flags):
        flags = {**_GRAMMARS[truth], "epochs": "12", **flags}
        if truth != "E":
            flags["min_words"] = "4"
        flags["num_seeds"] = str(min(num_seeds, budget.num_seeds))
        flags["epochs"] = str(max(round(int(flags["epochs"]) * budget.share), 2))
        if budget.num_samples:
            # A step takes longer than elsewhere, and one for long sentences to compile.
            flags |= {"num_samples": str(budget.num_samples // 4), "held_out": "100"}
            flags |= {"num_test": "100", "max_words": "6", "num_buckets": "1"}
        name = f"{truth}_{kind}"
        return Cell("neural_pcfg", name, "neural_pcfg", flags, {"kept.csv": name})

    for name in ("R0",) if budget.is_one else _GRAMMARS:
        levels = "10,20,30" if name == "E" else "10,20"
        yield cell(name, "main", 10, levels=levels)
    yield cell("R0", "larger", 10, levels="30")
    levels = budget.levels("10,20", "10")
    yield cell("R0", "faithful", 10, levels=levels, mode="faithful", epochs="10")
    if not budget.is_one:
        yield cell("R0", "largest", 4, levels="60")


def cells(budget: Budget, data_dir: str | None = None) -> list[Cell]:
    """All cells, those of the main claims first.

    Args:
      budget: how much of the rules.
      data_dir: the study's published release; without it IMG, CON8 and the true
        columns of sparse coding are drawn anew and there is no PLNT.
    """
    first, rest = [], []
    families = (
        *_noisy_or(budget, data_dir),
        *_sparse_coding(budget, data_dir),
        *_neural_pcfg(budget),
    )
    for cell in families:
        is_first = cell.name.endswith(("_main", "_truths"))
        (first if is_first else rest).append(cell)
    return [*first, *_dynamics(budget), *_recurring(budget, data_dir), *rest]
