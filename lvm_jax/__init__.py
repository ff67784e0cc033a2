"""Overparameterized latent-variable models: what is recovered?

A data set makes a `Task`, a `Plan` says which levels, settings and seeds are trained,
`train` trains them, and its `Results` are arrays. The families `noisy_or`,
`sparse_coding` and `pcfg` hold models, data and learners; `report` makes tables and
figures, and is imported by name, for it brings matplotlib.
"""

from lvm_jax import dynamics, noisy_or, pcfg, sparse_coding
from lvm_jax.files.samples import read_names, read_samples
from lvm_jax.numerics import key
from lvm_jax.recurrence import Consensus
from lvm_jax.sweep.engine import Sweep
from lvm_jax.sweep.plan import Plan
from lvm_jax.training.agreement import (
    Recommendation,
    agreement,
    consensus,
    num_survivors,
    recommend,
)
from lvm_jax.training.calibration import Calibration, calibrate
from lvm_jax.training.interruption import Interruption
from lvm_jax.training.measures import measure
from lvm_jax.training.progress import Progress
from lvm_jax.training.results import Results, load
from lvm_jax.training.train import describe, train
from lvm_jax.training.wave import Stopped
from lvm_jax.training.workdir import WorkdirError
from lvm_jax.types import Buckets, Dataset, Info, Learner, Recovery, Task

__all__ = [
    "Buckets",
    "Calibration",
    "Consensus",
    "Dataset",
    "Info",
    "Interruption",
    "Learner",
    "Plan",
    "Progress",
    "Recommendation",
    "Recovery",
    "Results",
    "Stopped",
    "Sweep",
    "Task",
    "WorkdirError",
    "agreement",
    "calibrate",
    "consensus",
    "describe",
    "dynamics",
    "key",
    "load",
    "measure",
    "noisy_or",
    "num_survivors",
    "pcfg",
    "read_names",
    "read_samples",
    "recommend",
    "sparse_coding",
    "train",
]
