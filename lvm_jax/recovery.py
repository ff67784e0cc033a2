"""Match learned latents to true ones, filter them, count what was recovered; agreement.

Arrays in, records out; everything works under jit and vmap. A model says what a
cost, an unused latent and a duplicate are; nothing here knows which model it is.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from lvm_jax.types import ModelFn, RecoverFn, Recovery

# The cost of a pair that must not match. Finite, since the assignment adds costs.
FORBIDDEN = 1000.0


def assign(cost: chex.Array, allowed: chex.Array, threshold: float) -> chex.Array:
    """Minimum-cost assignment of truths to latents, cut at a threshold.

    Args:
      cost: [T, K]. Cost of each pair; entries above 1000 or not finite count as
        1000.
      allowed: [K] bool. Latents that may match.
      threshold: the largest cost that counts as a match.

    Returns:
      [T] int32. The latent assigned to each truth, -1 where there is none or where
      its cost is above the threshold.
    """
    num_truths, num_latents = cost.shape
    cost = jnp.where(allowed & jnp.isfinite(cost), cost, FORBIDDEN)
    # A spare column for each truth: any assignment that uses one can be turned into
    # one of the same cost that does not, and the algorithm needs fewer rounds.
    spare = jnp.full((num_truths, num_truths), FORBIDDEN)
    cost = jnp.concatenate([jnp.minimum(cost, FORBIDDEN), spare], axis=1)
    truths, latents = optax.assignment.hungarian_algorithm(cost)
    latents = jnp.zeros(num_truths, jnp.int32).at[truths].set(latents)
    is_match = cost[jnp.arange(num_truths), latents] <= threshold
    return jnp.where(is_match & (latents < num_latents), latents, -1)


def find_duplicates(
    distance: chex.Array, weight: chex.Array, alive: chex.Array, threshold: float
) -> chex.Array:
    """Latents that repeat a weightier one, itself a duplicate or not.

    Args:
      distance: [K, K]. Distance of each pair.
      weight: [K]. A latent can only repeat one of higher weight, or one of equal
        weight and lower index.
      alive: [K] bool. Other latents neither repeat nor are repeated.
      threshold: the largest distance of a duplicate.

    Returns:
      [K] bool.
    """
    index = jnp.arange(weight.size)
    outranks = (weight[:, None] > weight) | (
        (weight[:, None] == weight) & (index[:, None] < index)
    )
    repeats = outranks & (distance <= threshold) & alive[:, None]
    return repeats.any(axis=0) & alive


def recover(
    cost: chex.Array,
    *,
    live: chex.Array,
    used: chex.Array,
    distance: chex.Array,
    weight: chex.Array,
    match_threshold: float,
    duplicate_threshold: float,
) -> Recovery:
    """Matches truths before and after the filter for unused and duplicate latents.

    Args:
      cost: [T, K]. Matching cost of each truth and latent.
      live: [K]. Nonzero for the latents of the run, zero for padding.
      used: [K] bool. Latents that the model makes use of.
      distance: [K, K]. Distance of each pair of latents.
      weight: [K]. Which of two close latents to keep: the larger.
      match_threshold: the largest cost of a match.
      duplicate_threshold: the largest distance of a duplicate.

    Returns:
      Recovery, without measures of the model's own.
    """
    is_live = live > 0
    survives = is_live & used
    duplicate = find_duplicates(distance, weight, survives, duplicate_threshold)
    kept = survives & ~duplicate
    matched = assign(cost, is_live, match_threshold)
    matched_kept = assign(cost, kept, match_threshold)
    return Recovery(
        matched=matched,
        kept=kept,
        discarded=is_live & ~used,
        duplicate=duplicate,
        num_recovered=(matched >= 0).sum(),
        num_kept=kept.sum(),
        num_recovered_after_filter=(matched_kept >= 0).sum(),
        measures={},
    )


class Runs(NamedTuple):
    """Models that runs have learned, to be compared.

    Attributes:
      model: of their learner.
      params: leaves [R, ...].
      live: masks [R, K], of each kind of latents.
      kind: the place among the masks of the latents that are compared.
    """

    model: ModelFn
    params: Any
    live: Any
    kind: int = -1


def _filtered(runs: Runs, live: Any, survivors: chex.Array) -> Any:
    """The masks of one of the runs, of which the compared kind has survivors alone."""
    masks, structure = jax.tree.flatten(live)
    masks[runs.kind] = survivors.astype(masks[runs.kind].dtype)
    return jax.tree.unflatten(structure, masks)


def survivors(runs: Runs, recover: RecoverFn, held_out: Any) -> chex.Array:
    """[R, K] bool. Which latents of each run survive the filter.

    Args:
      runs: to be filtered.
      recover: of a task.
      held_out: of the task.
    """

    def of_run(run):
        params, live = run
        own = runs.model(params, live)
        return recover(own, own, live, held_out).kept

    return jax.lax.map(of_run, (runs.params, runs.live))


def matches(
    runs: Runs,
    others: Runs,
    kept: chex.Array,
    others_kept: chex.Array,
    recover: RecoverFn,
    held_out: Any,
) -> chex.Array:
    """Which survivor of every other run each run's survivors match.

    Args:
      runs: R of them; their survivors take the place of the truth.
      others: R' of them, which may have another number of latents.
      kept: [R, K] bool. Of `survivors`.
      others_kept: [R', K'] bool. Of `survivors`, of the others.
      recover: of a task.
      held_out: of the task.

    Returns:
      [R, R', K] int. The second run's survivor that is matched to one of the first, -1
      where there is none.
    """

    def with_others(run):
        params, live, of_run = run
        truth = runs.model(params, _filtered(runs, live, of_run))

        def with_other(other):
            params, live, of_other = other
            live = _filtered(others, live, of_other)
            found = recover(truth, others.model(params, live), live, held_out)
            return jnp.where(of_run, found.matched, -1)

        return jax.lax.map(with_other, (others.params, others.live, others_kept))

    return jax.lax.map(with_others, (runs.params, runs.live, kept))


def matched_truths(
    runs: Runs, kept: chex.Array, truth: Any, recover: RecoverFn, held_out: Any
) -> chex.Array:
    """[R, K] int. The truth that each survivor of a run is matched to, or -1.

    Args:
      runs: R of them.
      kept: [R, K] bool. Of `survivors`.
      truth: of a task.
      recover: of the task.
      held_out: likewise.
    """

    def of_run(run):
        params, live, of_run = run
        live = _filtered(runs, live, of_run)
        matched = recover(truth, runs.model(params, live), live, held_out).matched
        place = jnp.where(matched < 0, of_run.size, matched)
        truths = jnp.full(of_run.size, -1)
        return truths.at[place].set(jnp.arange(matched.size), mode="drop")

    return jax.lax.map(of_run, (runs.params, runs.live, kept))


def agreement(matched: chex.Array, kept: chex.Array) -> chex.Array:
    """The share of each run's surviving latents that every other run has.

    Args:
      matched: [R, R, K] int. Of `matches`.
      kept: [R, K] bool. Of `survivors`.

    Returns:
      [R, R]. Of the first run's survivors the share that the second run has; NaN where
      none survives.
    """
    return (matched >= 0).sum(-1) / kept.sum(-1)[:, None]
