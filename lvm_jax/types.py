"""The records that every layer speaks: data, learners, tasks and recovery.

Axis letters: R runs, N examples, B batch, D observed variables, K latents,
T true latents, E records of a run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import chex
import jax

# A level of overparameterization: the number of latents, or a tuple of numbers
# where a model has latents of several kinds.
Level = int | tuple[int, ...]

# What a learner is tuned by: a NamedTuple of numbers, each of them traced.
Hyperparams = Any


def level_name(level: Level) -> str:
    """A level as it stands in tables: 16, or 10x10 for a tuple."""
    return "x".join(str(size) for size in jax.tree.leaves(level))


class Dataset(NamedTuple):
    """Samples and, if it is known, the model that they were drawn from.

    Attributes:
      name: as shown in tables.
      samples: [N, ...].
      truth: parameters of the true model, whose latents are to be recovered; None if
        nothing is known. Of a misspecified data set, the part of them that a learner
        could recover.
      recipe: what samples and truth were made from, as JSON has it, where that says
        it all; None for data that only their own numbers identify. Samples with a
        recipe are independent draws: any of them may be held out.
    """

    name: str
    samples: chex.Array
    truth: Any = None
    recipe: Mapping[str, Any] | None = None


class Buckets(NamedTuple):
    """Training data in parts whose samples differ in shape, such as in length.

    A batch comes from one bucket. Which one a step takes depends on the epoch alone
    and is the same for all runs.

    Attributes:
      parts: trees of arrays [N, ...], of one structure, each with an N of its own.
    """

    parts: tuple[Any, ...]


class Info(NamedTuple):
    """What one step or one evaluation has measured.

    Attributes:
      objective: []. What learning maximises, in nats or in the learner's own
        units. Its value on validation data chooses the model that a run keeps, and a
        run whose objective is not finite has diverged.
      metrics: scalars by name. A step's are averaged between two records and
        reported as `train_<name>`, an evaluation's as `held_out_<name>`.
    """

    objective: chex.Array
    metrics: dict[str, chex.Array]


class InitFn(Protocol):
    """The state before the first step."""

    def __call__(self, key: chex.PRNGKey, live: Any, train: Any) -> Any:
        """Starts a run.

        Args:
          key: random key.
          live: [K] mask of the latents, a tuple of masks where there are several kinds.
          train: the training data, NumPy's or JAX's, for starts that depend on them.

        Returns:
          A state with a field `params`: a tree of arrays whose latent axis, if any,
          comes first.
        """


class StepFn(Protocol):
    """One update."""

    def __call__(
        self, key: chex.PRNGKey, state: Any, live: Any, batch: Any
    ) -> tuple[Any, Info]:
        """Learns from a batch.

        Args:
          key: random key.
          state: of the step before.
          live: mask of the latents.
          batch: tree of arrays [B, ...].

        Returns:
          The next state, and what the step has measured.
        """


class EvaluateFn(Protocol):
    """Measures without learning."""

    def __call__(self, key: chex.PRNGKey, state: Any, live: Any, data: Any) -> Info:
        """Measures a state on data that it does not learn from.

        Args:
          key: random key.
          state: of any step.
          live: mask of the latents.
          data: tree of arrays [N', ...].
        """


class ModelFn(Protocol):
    """The generative model alone; no hyperparameter changes it."""

    def __call__(self, params: Any, live: Any) -> Any:
        """The model's parameters, in which dead latents are never on.

        Args:
          params: of a state.
          live: mask of the latents.
        """


class ReviseFn(Protocol):
    """What changes between epochs: which latents there are, or what they start from."""

    def __call__(
        self,
        key: chex.PRNGKey,
        state: Any,
        live: Any,
        num_epochs: chex.Array,
    ) -> tuple[Any, Any]:
        """Called before every epoch, the first among them.

        Args:
          key: random key.
          state: as the epoch before has left it, or `init`.
          live: mask of the latents, likewise.
          num_epochs: [] int. Epochs that are done.

        Returns:
          The state and the mask, of the same shapes, with which learning goes on.
        """


class Learner(NamedTuple):
    """A learning algorithm as a record of pure functions.

    `live` masks the latents of a run: a run of level k inside a group of width K
    has k ones and K - k zeros. A dead latent must contribute nothing to loss,
    gradient, count or draw, so that results do not depend on the width.

    Attributes:
      init: (key, live, train) -> state.
      step: (key, state, live, batch) -> (state, Info).
      evaluate: (key, state, live, data) -> Info.
      model: (params, live) -> parameters of the generative model.
      revise: (key, state, live, num_epochs) -> (state, live), where the latents change
        while a run learns; None if they do not. The model that a run keeps is one of
        those with the mask that the run ends with.
    """

    init: InitFn
    step: StepFn
    evaluate: EvaluateFn
    model: ModelFn
    revise: ReviseFn | None = None


# Called inside the trace, with traced numbers, as `optax.inject_hyperparams` does.
MakeLearner = Callable[[Hyperparams], Learner]


class Recovery(NamedTuple):
    """Which true latents a learned model has recovered.

    Of a model with latents of several kinds, it speaks of the task's `kind`.

    Attributes:
      matched: [T] int. The learned latent that recovers each truth, else -1.
      kept: [K] bool. Learned latents that survive the filter.
      discarded: [K] bool. Live latents that the filter finds unused.
      duplicate: [K] bool. Live latents that the filter finds to repeat another.
      num_recovered: [] int. Truths matched by any live latent.
      num_kept: [] int. Latents that survive the filter.
      num_recovered_after_filter: [] int. Truths matched by survivors alone.
      measures: [] each. Further scalars of the model's own, by name.
    """

    matched: chex.Array
    kept: chex.Array
    discarded: chex.Array
    duplicate: chex.Array
    num_recovered: chex.Array
    num_kept: chex.Array
    num_recovered_after_filter: chex.Array
    measures: dict[str, chex.Array]

    def scalars(self) -> dict[str, chex.Array]:
        """What tables show of it, by column."""
        return {
            "num_recovered": self.num_recovered,
            "num_discarded": self.discarded.sum(),
            "num_kept": self.num_kept,
            "num_recovered_after_filter": self.num_recovered_after_filter,
            **self.measures,
        }


class RecoverFn(Protocol):
    """Compares a learned model with a true one, or with another learned one."""

    def __call__(self, truth: Any, model: Any, live: Any, held_out: Any) -> Recovery:
        """Matches, filters and counts latents.

        Args:
          truth: of the task, or what `Learner.model` makes of another run.
          model: what `Learner.model` makes of a run.
          live: mask of the run's latents.
          held_out: the task's held-out data.
        """


class TraceFn(Protocol):
    """What is seen of a model while it learns, beside scalars."""

    def __call__(
        self, truth: Any, model: Any, live: Any, held_out: Any
    ) -> dict[str, chex.Array]:
        """Arrays of any shape by name, of one record.

        Args:
          truth: of the task; None if nothing is known.
          model: what `Learner.model` makes of a run.
          live: mask of the run's latents.
          held_out: the task's held-out data.
        """


class LatentsFn(Protocol):
    """What a model says of each of its latents."""

    def __call__(self, model: Any) -> dict[str, chex.Array]:
        """Parameters of each latent alone, in units that people read.

        Args:
          model: what `Learner.model` makes of a run.

        Returns:
          Arrays [K, ...] by name.
        """


class RedrawFn(Protocol):
    """A task whose truth is known, as like a user's as can be."""

    def __call__(
        self, key: chex.PRNGKey, task: "Task", latents: Mapping[str, Any]
    ) -> "Task":
        """Draws as many samples from the model that latents make.

        Args:
          key: random key.
          task: whose samples what else the model needs is estimated from.
          latents: arrays [C, ...] by name, of `latents`.

        Returns:
          Task with samples of the same shapes, and the model as its truth.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned from what, and what it is compared with.

    Data and truth are arguments of the compiled program: tasks that differ in their
    numbers alone share it.

    Attributes:
      name: as shown in tables.
      learner: hyperparameters -> Learner. The same function for tasks that are to
        share a program. A workdir knows it by its name and by what is applied to it.
      train: tree of arrays [N, ...] to learn from, or Buckets of them.
      held_out: tree of arrays [N', ...] to report on.
      validation: tree of arrays [N'', ...] that choose the models that runs keep, so
        that what is reported is of others; None if the held-out ones do.
      truth: tree of arrays, the true model; None if nothing is known, and then there
        are no columns of recovery.
      recover: how models are compared; None if they cannot be.
      kind: where latents are of several kinds, the place among their masks of those
        that `recover` speaks of; by default the last.
      trace: what is seen of a run at every record, as arrays; None if nothing.
      latents: what a model says of each latent; None if nothing.
      redraw: a task like this one with a known truth; None if there is no such.
      recipe: what the data were made from, as JSON has it, where that says it all;
        None if their digest is to identify them.
      about: what else numbers depend on, as JSON has it.
    """

    name: str
    learner: MakeLearner
    train: Any
    held_out: Any
    validation: Any = None
    truth: Any = None
    recover: RecoverFn | None = None
    kind: int = -1
    trace: TraceFn | None = None
    latents: LatentsFn | None = None
    redraw: RedrawFn | None = None
    recipe: Mapping[str, Any] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Checks that the truth can be compared with.

        Raises:
          ValueError: if there is a truth and nothing to compare it by.
        """
        if self.truth is not None and self.recover is None:
            raise ValueError(
                f"expected a function `recover` for the truth of {self.name}, got none"
            )

    @classmethod
    def of(cls, dataset: Dataset, held_out: Any, train: Any, **fields: Any) -> "Task":
        """The task of a data set that has been split.

        Args:
          dataset: whose name, truth and recipe the task has.
          held_out: tree of arrays [N', ...].
          train: tree of arrays [N, ...], or Buckets of them.
          **fields: the others, and those that differ from the data set's.
        """
        recipe = dataset.recipe
        if recipe is not None:
            apart = {"held_out": held_out, "validation": fields.get("validation")}
            counts = {
                name: jax.tree.leaves(part)[0].shape[0]
                for name, part in apart.items()
                if part is not None
            }
            recipe = {**recipe, **counts}
        return cls(
            **{
                "name": dataset.name,
                "truth": dataset.truth,
                "recipe": recipe,
                "train": train,
                "held_out": held_out,
                **fields,
            }
        )

    @property
    def data(self) -> dict[str, Any]:
        """What a program is given: samples, in their parts, and the truth."""
        names = ("train", "held_out", "validation", "truth")
        return {name: getattr(self, name) for name in names}

    @property
    def has_recovery(self) -> bool:
        """Whether runs are compared with a truth while they learn."""
        return self.truth is not None
