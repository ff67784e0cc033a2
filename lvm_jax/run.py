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

from lvm_jax.numerics import permutation
from lvm_jax.plan import SweepConfig
from lvm_jax.types import Buckets, Learner, Recovery


class Run(NamedTuple):
    """One run of a sweep, or with a leading axis all runs of a group.

    Attributes:
      key: the run's random key, from its seed and level.
      live: [K] mask of the latents of its level.
      state: the learner's.
      objective: [] the last epoch's held-out objective.
      kept: the learner's `params` of the best snapshot by held-out objective.
      kept_objective: [] held-out objective of `kept`, -inf before there is one.
      kept_epoch: [] epoch of `kept`, 0 before there is one.
      diverged: [] bool. Whether an objective has not been finite.
    """

    key: chex.PRNGKey
    live: Any
    state: Any
    objective: chex.Array
    kept: Any
    kept_objective: chex.Array
    kept_epoch: chex.Array
    diverged: chex.Array


class Record(NamedTuple):
    """What is known of a run after an epoch; with leading axes, of runs and epochs.

    Attributes:
      train: the steps' metrics, averaged over the epoch.
      held_out: the evaluation's metrics.
      recovery: scalars of the run's Recovery; its arrays are left out.
      diverged: [] bool.
    """

    train: dict[str, chex.Array]
    held_out: dict[str, chex.Array]
    recovery: dict[str, chex.Array]
    diverged: chex.Array


class Keys(NamedTuple):
    """Independent random keys of a run, one for each use."""

    init: chex.PRNGKey
    order: chex.PRNGKey
    step: chex.PRNGKey
    evaluate: chex.PRNGKey


def init_run(learner: Learner, key: chex.PRNGKey, live: Any) -> Run:
    """A run before its first epoch."""
    state = learner.init(Keys(*jax.random.split(key, 4)).init, live)
    return Run(
        key=key,
        live=live,
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
    order = permutation(jax.random.fold_in(jax.random.key(0), epoch), sum(num_steps))
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


def train_epoch(
    learner: Learner,
    recover: Callable[[Any, Any], Recovery],
    config: SweepConfig,
    train: Any,
    held_out: Any,
    run: Run,
    epoch: chex.Array,
) -> tuple[Run, Record]:
    """One epoch of one run.

    Args:
      learner: the algorithm.
      recover: (params, live) -> Recovery.
      config: of the sweep.
      train: tree of arrays [N, ...] to learn from, or Buckets of them.
      held_out: tree of arrays [N', ...] to evaluate on.
      run: as the epoch before has left it.
      epoch: [] int, counted from 1.

    Returns:
      The run, and what is known of it now.
    """
    keys = Keys(*jax.random.split(run.key, 4))
    parts = buckets(train)
    order_key = jax.random.fold_in(keys.order, epoch)
    order_keys = [order_key] + [
        jax.random.fold_in(order_key, index) for index in range(1, len(parts))
    ]
    batches = [
        _batches(key, part, config.batch_size)
        for key, part in zip(order_keys, parts, strict=True)
    ]
    epoch_key = jax.random.fold_in(keys.step, epoch)
    step_keys = jax.vmap(jax.random.fold_in, (None, 0))(
        epoch_key, jnp.arange(sum(map(len, batches)))
    )

    def step_on(part, state, key, indices):
        batch = jax.tree.map(lambda data: data[indices], part)
        return learner.step(key, state, run.live, batch)

    steps = [functools.partial(step_on, part) for part in parts]
    step, inputs = _schedule(steps, batches, epoch)
    state, infos = jax.lax.scan(
        lambda state, inputs: step(state, *inputs), run.state, (step_keys, *inputs)
    )
    evaluate_key = jax.random.fold_in(keys.evaluate, epoch)
    info = learner.evaluate(evaluate_key, state, run.live, held_out)
    is_finite = jnp.isfinite(info.objective) & jnp.isfinite(infos.objective).all()
    run = run._replace(
        state=state,
        objective=info.objective.astype(jnp.float32),
        diverged=run.diverged | ~is_finite,
    )
    run = keep_if_better(run, epoch, epoch % config.snapshot_every == 0)
    recovery = recover(state.params, run.live)
    scalars = {
        name: jnp.where(run.diverged, 0, value)
        for name, value in recovery.scalars().items()
    }
    train_metrics = jax.tree.map(lambda metric: metric.mean(), infos.metrics)
    return run, Record(train_metrics, info.metrics, scalars, run.diverged)


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
