"""One run of a sweep: its start, one epoch of training, and what it keeps.

Pure functions of one run, which the sweep maps over many.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import numerics
from lvm_jax.numerics import permutation
from lvm_jax.sweep.plan import Schedule
from lvm_jax.types import Buckets, Hyperparams, MakeLearner, RecoverFn, TraceFn


class Run(NamedTuple):
    """One run of a sweep, or with a leading axis all runs of a group.

    Attributes:
      key: the run's random key, from its seed and level.
      live: [K] mask of the latents, of its level unless the learner revises it.
      hyperparams: of its setting, [] each.
      state: the learner's.
      objective: [] the last epoch's held-out objective.
      kept: the learner's `params` of the best snapshot by held-out objective.
      kept_objective: [] held-out objective of `kept`, -inf before there is one.
      kept_epoch: [] epoch of `kept`, 0 before there is one.
      diverged: [] bool. Whether an objective has not been finite.
    """

    key: chex.PRNGKey
    live: Any
    hyperparams: Hyperparams
    state: Any
    objective: chex.Array
    kept: Any
    kept_objective: chex.Array
    kept_epoch: chex.Array
    diverged: chex.Array


class Record(NamedTuple):
    """What is known of a run at a moment; with leading axes, of runs and moments.

    Attributes:
      train: the steps' metrics, averaged since the record before.
      held_out: the evaluation's metrics.
      recovery: scalars of the run's Recovery, whose arrays are left out; none without
        a truth.
      trace: what the task traces, arrays of any shape, K padded latents among them.
      diverged: [] bool.
    """

    train: dict[str, chex.Array]
    held_out: dict[str, chex.Array]
    recovery: dict[str, chex.Array]
    trace: dict[str, chex.Array]
    diverged: chex.Array


class Keys(NamedTuple):
    """Independent random keys of a run, one for each use."""

    init: chex.PRNGKey
    order: chex.PRNGKey
    step: chex.PRNGKey
    evaluate: chex.PRNGKey
    revise: chex.PRNGKey


def _keys(key: chex.PRNGKey) -> Keys:
    return Keys(*jax.random.split(key, len(Keys._fields)))


class Data(NamedTuple):
    """What a compiled program is given of a task.

    Attributes:
      train: tree of arrays [N, ...] to learn from, or Buckets of them.
      held_out: tree of arrays [N', ...] to report on.
      validation: tree of arrays [N'', ...] that choose what is kept, or None.
      truth: tree of arrays, or None.
    """

    train: Any
    held_out: Any
    validation: Any
    truth: Any


def init_run(
    make_learner: MakeLearner,
    train: Any,
    key: chex.PRNGKey,
    live: Any,
    hyperparams: Hyperparams,
) -> Run:
    """A run before its first epoch."""
    learner = make_learner(hyperparams)
    state = learner.init(_keys(key).init, live, train)
    if not hasattr(state, "params"):
        raise ValueError(
            f"expected a state with a field `params` from `init`, got {type(state)}"
        )
    return Run(
        key=key,
        live=live,
        hyperparams=hyperparams,
        state=state,
        objective=jnp.float32(-jnp.inf),
        kept=state.params,
        kept_objective=jnp.float32(-jnp.inf),
        kept_epoch=jnp.int32(0),
        diverged=jnp.bool_(False),
    )


def buckets(train: Any) -> tuple[Any, ...]:
    """The buckets of training data; data without buckets are one."""
    return train.parts if isinstance(train, Buckets) else (train,)


def count_samples(part: Any) -> int:
    """N of a tree of arrays [N, ...]."""
    return jax.tree.leaves(part)[0].shape[0]


def _batches(key: chex.PRNGKey, part: Any, batch_size: int) -> chex.Array:
    """[steps, B] indices of an epoch's batches, without a last one that is not full."""
    num_steps = count_samples(part) // batch_size
    order = permutation(key, count_samples(part))
    return order[: num_steps * batch_size].reshape(num_steps, -1)


def _schedule(
    steps: Sequence[Callable[..., Any]],
    batches: Sequence[chex.Array],
    epoch: chex.Array,
) -> tuple[Callable[..., Any], Sequence[chex.Array]]:
    """One step function for all buckets, and what it is given in turn.

    Which bucket a step takes depends on the epoch alone: under vmap over runs it
    stays one number, and a step computes that bucket and no other.

    Args:
      steps: (state, key, indices) -> (state, Info), for each bucket.
      batches: [steps, B] indices of each bucket's batches.
      epoch: counted from 1.

    Returns:
      (state, key, *inputs) -> (state, Info), and inputs with an axis of steps.
    """
    if len(steps) == 1:
        return steps[0], batches
    num_steps = [len(indices) for indices in batches]
    order = permutation(jax.random.fold_in(numerics.key(0), epoch), sum(num_steps))
    bucket_of_step = np.repeat(np.arange(len(steps)), num_steps)
    batch_of_step = np.concatenate([np.arange(count) for count in num_steps])

    def step(state, key, bucket, batch):
        branches = [
            lambda state, key, batch, step=step, indices=indices: step(
                state, key, indices[batch]
            )
            for step, indices in zip(steps, batches, strict=True)
        ]
        return jax.lax.switch(bucket, branches, state, key, batch)

    return step, (
        jnp.asarray(bucket_of_step)[order],
        jnp.asarray(batch_of_step)[order],
    )


def count_steps(train: Any, batch_size: int) -> int:
    """Steps of an epoch: full batches of every bucket."""
    return sum(count_samples(part) // batch_size for part in buckets(train))


def train_epoch(
    make_learner: MakeLearner,
    recover: RecoverFn | None,
    trace: TraceFn | None,
    schedule: Schedule,
    data: Data,
    run: Run,
    epoch: chex.Array,
) -> tuple[Run, Record]:
    """One epoch of one run.

    Args:
      make_learner: hyperparameters -> Learner.
      recover: of the task; None if there is no truth.
      trace: of the task.
      schedule: of the plan.
      data: of the task.
      run: as the epoch before has left it.
      epoch: [] int, counted from 1.

    Returns:
      The run, and what is known of it after each part of the epoch, a Record of arrays
      [records_per_epoch].
    """
    learner = make_learner(run.hyperparams)
    keys = _keys(run.key)
    run = _revised(learner, keys.revise, run, epoch - 1)
    step, inputs = _epoch_steps(learner, schedule, data.train, keys, run.live, epoch)
    evaluate_key = jax.random.fold_in(keys.evaluate, epoch)

    def train_part(run, part, inputs):
        is_last = part == schedule.records_per_epoch - 1
        state, infos = jax.lax.scan(
            lambda state, inputs: step(state, *inputs), run.state, inputs
        )
        # The key at the end of an epoch is that of an epoch with one record.
        key = jnp.where(is_last, evaluate_key, jax.random.fold_in(evaluate_key, part))
        info = learner.evaluate(key, state, run.live, data.held_out)
        if jnp.shape(info.objective) or infos.objective.ndim != 1:
            raise ValueError(
                "expected a scalar as objective of a step and of an evaluation, got "
                f"shapes {infos.objective.shape[1:]} and {jnp.shape(info.objective)}"
            )
        objective = info.objective
        if data.validation is not None:
            # Of a key of its own: draws that favour a model would be reported again.
            key = jax.random.split(key)[0]
            objective = learner.evaluate(
                key, state, run.live, data.validation
            ).objective
        is_finite = jnp.isfinite(infos.objective).all()
        is_known = jnp.isfinite(info.objective) & jnp.isfinite(objective)
        run = run._replace(
            state=state,
            objective=jnp.asarray(objective, jnp.float32),
            diverged=run.diverged | ~is_finite | (is_last & ~is_known),
        )
        diverged = run.diverged | ~is_known
        return run, Record(
            train=jax.tree.map(lambda metric: metric.mean(), infos.metrics),
            held_out=info.metrics,
            recovery=_recovery(learner, recover, data, run, diverged),
            trace=_trace(learner, trace, data, run),
            diverged=diverged,
        )

    run, records = _in_parts(train_part, schedule.records_per_epoch, run, inputs)
    return keep_if_better(run, epoch, epoch % schedule.snapshot_every == 0), records


def _epoch_steps(learner, schedule, train, keys, live, epoch):
    """The step function of an epoch, and the keys and batches that it takes in turn."""
    parts = buckets(train)
    order_key = jax.random.fold_in(keys.order, epoch)
    order_keys = [order_key] + [
        jax.random.fold_in(order_key, index) for index in range(1, len(parts))
    ]
    batches = [
        _batches(key, part, schedule.batch_size)
        for key, part in zip(order_keys, parts, strict=True)
    ]
    epoch_key = jax.random.fold_in(keys.step, epoch)
    step_keys = jax.vmap(jax.random.fold_in, (None, 0))(
        epoch_key, jnp.arange(sum(map(len, batches)))
    )

    def step_on(part, state, key, indices):
        batch = jax.tree.map(lambda data: data[indices], part)
        return learner.step(key, state, live, batch)

    steps = [functools.partial(step_on, part) for part in parts]
    step, inputs = _schedule(steps, batches, epoch)
    return step, (step_keys, *inputs)


def _in_parts(
    train_part: Callable[..., tuple[Run, Record]],
    num_parts: int,
    run: Run,
    inputs: Any,
) -> tuple[Run, Record]:
    """Trains on equal parts of the inputs in turn; the records get an axis of parts."""
    if num_parts == 1:
        run, record = train_part(run, 0, inputs)
        return run, jax.tree.map(lambda leaf: leaf[None], record)
    inputs = jax.tree.map(
        lambda leaf: leaf.reshape(num_parts, -1, *leaf.shape[1:]), inputs
    )
    return jax.lax.scan(
        lambda run, part: train_part(run, *part), run, (jnp.arange(num_parts), inputs)
    )


def _recovery(learner, recover, data, run, diverged) -> dict[str, chex.Array]:
    """Scalars of the comparison with the truth; all zero of a diverged run."""
    if recover is None:
        return {}
    model = learner.model(run.state.params, run.live)
    recovery = recover(data.truth, model, run.live, data.held_out)
    return {
        name: jnp.where(diverged, 0, value)
        for name, value in recovery.scalars().items()
    }


def _trace(learner, trace, data, run) -> dict[str, chex.Array]:
    if trace is None:
        return {}
    model = learner.model(run.state.params, run.live)
    traced = trace(data.truth, model, run.live, data.held_out)
    for name, values in traced.items():
        kind = np.dtype(getattr(values, "dtype", object)).kind
        if kind not in "biuf" or "/" in name:
            raise ValueError(
                "expected arrays of numpy's numbers by name from `trace`, got "
                f"{getattr(values, 'dtype', type(values).__name__)} as {name!r}"
            )
    return traced


def _revised(learner, key, run: Run, num_epochs: chex.Array) -> Run:
    """The run that the next epoch begins with.

    What was kept with other latents is no candidate any more.
    """
    if learner.revise is None:
        return run
    key = jax.random.fold_in(key, num_epochs)
    state, live = learner.revise(key, run.state, run.live, num_epochs)
    changes = [
        (new != old).any()
        for new, old in zip(
            jax.tree.leaves(live), jax.tree.leaves(run.live), strict=True
        )
    ]
    is_new = jnp.stack(changes).any()
    return run._replace(
        state=state,
        live=live,
        kept_objective=jnp.where(is_new, -jnp.inf, run.kept_objective),
        kept_epoch=jnp.where(is_new, 0, run.kept_epoch),
    )


def keep_if_better(run: Run, epoch: chex.Array, is_candidate: chex.Array) -> Run:
    """Keeps the run's parameters if they are the best candidate so far."""
    is_better = is_candidate & ~run.diverged & (run.objective > run.kept_objective)

    def choose(new, old):
        return jnp.where(is_better, new, old)

    return run._replace(
        kept=jax.tree.map(choose, run.state.params, run.kept),
        kept_objective=choose(run.objective, run.kept_objective),
        kept_epoch=choose(epoch, run.kept_epoch),
    )
