"""The durable part: training that resumes, its directory, and its results."""

from lvm_jax.training.agreement import agreement, consensus, recommend
from lvm_jax.training.interruption import Interruption
from lvm_jax.training.measures import measure
from lvm_jax.training.progress import Progress, show
from lvm_jax.training.results import Kept, Results, load, save
from lvm_jax.training.train import describe, never, train
from lvm_jax.training.wave import Stopped
from lvm_jax.training.workdir import WorkdirError

__all__ = [
    "Interruption",
    "Kept",
    "Progress",
    "Results",
    "Stopped",
    "WorkdirError",
    "agreement",
    "consensus",
    "describe",
    "load",
    "measure",
    "never",
    "recommend",
    "save",
    "show",
    "train",
]
