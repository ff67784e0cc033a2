"""What learners of noisy-OR networks with a recognition network share.

Their parameters, a draw of h from q(h | x), the score-function loss and its running
baseline, and the evidence lower bound of held-out samples. Source: Mnih and Gregor,
"Neural Variational Inference and Learning in Belief Networks", ICML 2014, section 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or import recognition
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.noisy_or.recognition import Recognition
from lvm_jax.numerics import row_sums, unpack_bits
from lvm_jax.types import Info, Learner

_DECAY = 0.8  # of the running mean and variance, as in the study


class Params(NamedTuple):
    """The learned network and its recognition network."""

    model: NoisyOr
    q: Recognition


def network(params: Params | NoisyOr) -> NoisyOr:
    """The learned network of the parameters of any learner of the family."""
    return params.model if isinstance(params, Params) else params


class VariationalHyperparams(NamedTuple):
    """Rates of learners without a critic; the defaults are the study's for IMG.

    Attributes:
      theta_rate: Adam's learning rate for the network.
      q_rate: Adam's learning rate for the recognition network.
    """

    theta_rate: float = 0.04
    q_rate: float = 0.04


class Baseline(NamedTuple):
    """Running statistics of the learning signal, in nats.

    Attributes:
      mean: [].
      variance: [].
      is_started: [] bool. Whether a batch has been seen.
    """

    mean: chex.Array
    variance: chex.Array
    is_started: chex.Array


def init(
    model_key: chex.PRNGKey, q_key: chex.PRNGKey, num_latents: int, mean: chex.Array
) -> Params:
    """Draws both networks as the study does.

    Args:
      model_key: random key of the network.
      q_key: random key of the recognition network.
      num_latents: K. The first k latents of a wider draw equal a draw of k.
      mean: [D]. Of the training samples.
    """
    return Params(
        noisy_or.init(model_key, num_latents, mean.size),
        recognition.init(q_key, num_latents, mean),
    )


def start(
    key: chex.PRNGKey, num_latents: int, train: chex.Array, num_observed: int
) -> tuple[Params, chex.PRNGKey]:
    """The networks that learning starts with, the same for all learners of a key.

    Args:
      key: random key.
      num_latents: K.
      train: [N, ceil(D / 32)] packed training samples.
      num_observed: D.

    Returns:
      Both networks, and a key for what else a learner draws.
    """
    model_key, q_key, key = jax.random.split(key, 3)
    mean = unpack_bits(train, num_observed).mean(0)
    return init(model_key, q_key, num_latents, mean), key


def mask(params: Params, live: chex.Array) -> Params:
    """The networks in which the latents that are not live are never on."""
    return Params(noisy_or.mask(params.model, live), recognition.mask(params.q, live))


def draw(
    key: chex.PRNGKey, params: Params, x: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """log P(x, h) and log q(h | x), [B] each in nats, of a draw h from q(h | x)."""
    q_logits = recognition.logits(params.q, x)
    h = jax.lax.stop_gradient(recognition.sample(key, q_logits))
    log_joint = noisy_or.log_joint(params.model, x, h)
    return log_joint, recognition.log_prob(q_logits, h)


def start_baseline() -> Baseline:
    """The statistics before the first batch."""
    return Baseline(jnp.zeros(()), jnp.zeros(()), jnp.bool_(False))


def update_baseline(baseline: Baseline, elbo: chex.Array) -> Baseline:
    """Moves the running statistics towards those of a batch [B], or starts them there.

    The variance is the unbiased one.
    """
    kept = jnp.where(baseline.is_started, _DECAY, 0.0)

    def move(old, new):
        return kept * old + (1.0 - kept) * new

    return Baseline(
        move(baseline.mean, elbo.mean()),
        move(baseline.variance, elbo.var(ddof=1)),
        jnp.bool_(True),
    )


def centred_signal(baseline: Baseline, elbo: chex.Array) -> chex.Array:
    """[B]. (elbo - running mean) / max(1, running standard deviation)."""
    scale = jnp.sqrt(jnp.maximum(1.0, baseline.variance))
    return (elbo - baseline.mean) / scale


def score_function_loss(
    log_joint: chex.Array, log_q: chex.Array, signal: chex.Array
) -> chex.Array:
    """A scalar whose gradient is the score-function estimate, for a descent.

    Args:
      log_joint: [..., B]. log P(x, h) of a draw h from q(h | x), in nats.
      log_q: [..., B]. log q(h | x) in nats.
      signal: [..., B]. Factor of each sample's gradient of log q(h | x); a constant.

    Returns:
      [].
    """
    return -(log_joint + jax.lax.stop_gradient(signal) * log_q).mean()


def elbo_info(elbo: chex.Array) -> Info:
    """The mean one-sample evidence lower bound in nats, as objective and metric."""
    mean = row_sums(elbo) / elbo.size
    return Info(mean, {"elbo": mean})


def evaluate(
    key: chex.PRNGKey, params: Params, live: chex.Array, data: chex.Array
) -> Info:
    """The one-sample evidence lower bound of packed samples.

    Args:
      key: random key.
      params: Params with K latents and D observed variables.
      live: [K].
      data: [N, ceil(D / 32)] words.
    """
    x = unpack_bits(data, params.q.mean.size)
    log_joint, log_q = draw(key, mask(params, live), x)
    return elbo_info(log_joint - log_q)


def model(params: Params, live: chex.Array) -> NoisyOr:
    """The network alone, in which dead latents are never on."""
    return noisy_or.mask(params.model, live)


class Optimizers(NamedTuple):
    """Adam for both networks, or the states of it."""

    theta: Any
    q: Any

    def init(self, params: Params) -> "Optimizers":
        """The states before the first step."""
        return Optimizers(self.theta.init(params.model), self.q.init(params.q))

    def descend(
        self, params: Params, grads: Params, states: "Optimizers"
    ) -> tuple[Params, "Optimizers"]:
        """Takes a step against the gradient of both networks."""
        model, theta = self.theta.update(grads.model, states.theta)
        q, q_state = self.q.update(grads.q, states.q)
        params = optax.apply_updates(params, Params(model, q))
        return params, Optimizers(theta, q_state)


def optimizers(hyperparams: Any) -> Optimizers:
    """Adam at `theta_rate` and at `q_rate` of a learner's hyperparameters."""
    return Optimizers(
        optax.adam(hyperparams.theta_rate), optax.adam(hyperparams.q_rate)
    )


class State(NamedTuple):
    """What a run carries from step to step where its baseline needs no memory."""

    params: Params
    optimizers: Optimizers


def learner(
    num_observed: int,
    hyperparams: VariationalHyperparams | None,
    loss: Callable[..., tuple[chex.Array, chex.Array]],
) -> Learner:
    """A learner that follows a gradient of both networks, each by Adam.

    Args:
      num_observed: D.
      hyperparams: rates; the study's for NVIL and IMG if None.
      loss: (params, key, live, x [B, D]) -> a scalar whose gradient is the estimate,
        and ELBOs [B] in nats.

    Returns:
      Learner with State as its state and Params as its parameters.
    """
    adams = optimizers(hyperparams or VariationalHyperparams())

    def init_state(key, live, train):
        params, _ = start(key, live.size, train, num_observed)
        return State(params, adams.init(params))

    def step(key, state, live, batch):
        x = unpack_bits(batch, num_observed)
        grads, elbo = jax.grad(loss, has_aux=True)(state.params, key, live, x)
        state = State(*adams.descend(state.params, grads, state.optimizers))
        return state, elbo_info(elbo)

    def evaluate_state(key, state, live, data):
        return evaluate(key, state.params, live, data)

    return Learner(init_state, step, evaluate_state, model)
