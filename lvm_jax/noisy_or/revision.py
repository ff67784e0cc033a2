"""Latents that come and go while a noisy-OR network learns by NVIL.

Each function makes a `Learner.revise`. None of them sees a truth: what a latent is
worth is said by the study's filter of the model itself.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from lvm_jax.noisy_or import variational
from lvm_jax.noisy_or.model import NoisyOr, recover
from lvm_jax.noisy_or.nvil import State
from lvm_jax.noisy_or.recognition import Recognition
from lvm_jax.noisy_or.variational import Optimizers, Params
from lvm_jax.types import ReviseFn


def _survivors(state: State, live: chex.Array) -> chex.Array:
    """[K] bool. Latents that are neither discarded nor duplicate."""
    model = variational.model(state.params, live)
    return recover(model, model, live).kept


def _with_rows(rows: chex.Array, new: Params, old: Params) -> Params:
    """Parameters, or moments of them, with some latents' from elsewhere."""

    def choose(new, old):
        return jnp.where(jnp.expand_dims(rows, range(1, old.ndim)), new, old)

    return Params(
        NoisyOr(
            choose(new.model.prior_logits, old.model.prior_logits),
            choose(new.model.failure_logits, old.model.failure_logits),
            old.model.noise_logits,
        ),
        Recognition(
            choose(new.q.weight, old.q.weight),
            choose(new.q.bias, old.q.bias),
            old.q.mean,
        ),
    )


def fresh(key: chex.PRNGKey, state: State, live: chex.Array, rows: chex.Array) -> State:
    """Starts some latents anew, as `init` draws them.

    Adam divides by the root of a running second moment, whose correction for a late
    start belongs to the run and not to a latent: with a moment of zero a latent would
    make steps several times too long. A fresh latent has no momentum, and for a second
    moment the mean over the others.

    Args:
      key: random key.
      state: of NVIL, with K latents.
      live: [K]. Latents that have learned so far.
      rows: [K] bool. Latents to start anew.
    """
    model_key, q_key = jax.random.split(key)
    new = variational.init(model_key, q_key, live.size, state.params.q.mean)
    others = (live > 0) & ~rows
    others = jnp.where(others.any(), others, live > 0)

    def mean_row(leaf):
        weights = jnp.expand_dims(others, range(1, leaf.ndim)).astype(leaf.dtype)
        return (weights * leaf).sum(0) / weights.sum() + jnp.zeros_like(leaf)

    def moments(name):
        return Params(
            optax.tree.get(state.optimizers.theta, name),
            optax.tree.get(state.optimizers.q, name),
        )

    first, second = moments("mu"), moments("nu")
    by_row = Params(
        NoisyOr(*map(mean_row, second.model[:2]), second.model.noise_logits),
        Recognition(*map(mean_row, second.q[:2]), second.q.mean),
    )
    first = _with_rows(rows, jax.tree.map(jnp.zeros_like, first), first)
    second = _with_rows(rows, by_row, second)
    theta, q = state.optimizers
    optimizers = Optimizers(
        optax.tree.set(theta, mu=first.model, nu=second.model),
        optax.tree.set(q, mu=first.q, nu=second.q),
    )
    params = _with_rows(rows, new, state.params)
    return state._replace(params=params, optimizers=optimizers)


def pruned(at: chex.Numeric) -> ReviseFn:
    """After `at` epochs, the survivors of the filter alone go on."""

    def revise(key, state, live, num_epochs):
        del key  # Unused.
        kept = live * _survivors(state, live)
        return state, jnp.where(num_epochs == at, kept, live)

    return revise


def grown(at: chex.Numeric, start: int, stop: int) -> ReviseFn:
    """The first `start` latents learn alone for `at` epochs; then fresh ones join.

    Args:
      at: epochs.
      start: latents that begin.
      stop: latents in the end, of a level at least as large.
    """

    def revise(key, state, live, num_epochs):
        index = jnp.arange(live.size)
        first = live * (index < start)
        joined = (index < stop).astype(live.dtype)
        joins = num_epochs == at
        rows = joins & (index >= start) & (index < stop)
        state = fresh(key, state, live, rows)
        live = jnp.where(num_epochs == 0, first, live)
        return state, jnp.where(joins, joined, live)

    return revise


def renewed(every: chex.Numeric, until: int) -> ReviseFn:
    """Every so many epochs, latents that the filter drops are started anew.

    Args:
      every: epochs.
      until: epochs after which none is any more.
    """

    def revise(key, state, live, num_epochs):
        is_due = (num_epochs > 0) & (num_epochs <= until) & (num_epochs % every == 0)
        rows = (live > 0) & ~_survivors(state, live) & is_due
        return fresh(key, state, live, rows), live

    return revise
