"""The durable part: training that resumes, its directory, and its results."""

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
from lvm_jax.training.progress import Progress, show
from lvm_jax.training.results import Kept, Results, load, save
from lvm_jax.training.train import describe, never, train
from lvm_jax.training.wave import Stopped
from lvm_jax.training.workdir import WorkdirError

__all__ = [
    "Calibration",
    "Interruption",
    "Kept",
    "Progress",
    "Recommendation",
    "Results",
    "Stopped",
    "WorkdirError",
    "agreement",
    "calibrate",
    "consensus",
    "describe",
    "load",
    "measure",
    "never",
    "num_survivors",
    "recommend",
    "save",
    "show",
    "train",
]
