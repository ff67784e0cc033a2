"""Noisy-OR networks learned with a recognition network: NVIL.

Each step draws one h ~ q(h | x) per sample, follows the gradient of log P(x, h) for
the network, and a score-function gradient for q: grad log q(h | x) times the signal

    r(x, h) = (log P(x, h) - log q(h | x) - m) / max(1, s) - C(x)

with running mean m, running standard deviation s, and a critic C fitted to the
signal's first term. Source: Mnih and Gregor, "Neural Variational Inference and
Learning in Belief Networks", ICML 2014, section 2; settings from Buhai et al. 2020,
appendix B.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from lvm_jax.models import noisy_or, recognition
from lvm_jax.models.noisy_or import NoisyOr
from lvm_jax.models.recognition import Recognition
from lvm_jax.types import Info, Learner

_DECAY = 0.8  # of the running mean and variance, as in the study
HIDDEN = 100  # units of the critic, as in the study
_WORD = 32  # bits in a word of packed data


@dataclasses.dataclass(frozen=True)
class NvilConfig:
    """Settings of the algorithm; the defaults are the study's.

    Attributes:
      theta_rate: Adam's learning rate for the network.
      q_rate: Adam's learning rate for the recognition network.
      critic_rate: learning rate of the critic's plain gradient descent.
      use_critic: whether the critic is subtracted from the signal.
    """

    theta_rate: float = 0.04
    q_rate: float = 0.04
    critic_rate: float = 1e-4
    use_critic: bool = True


class Critic(NamedTuple):
    """Parameters of C(x) = out . tanh(hidden (x - mean) + bias) + out_bias.

    Attributes:
      hidden: [H, D].
      hidden_bias: [H].
      out: [H].
      out_bias: [].
    """

    hidden: chex.Array
    hidden_bias: chex.Array
    out: chex.Array
    out_bias: chex.Array


class Params(NamedTuple):
    """The learned network and its recognition network."""

    model: NoisyOr
    q: Recognition


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


class State(NamedTuple):
    """What a run of the algorithm carries from step to step."""

    params: Params
    optimizers: tuple[optax.OptState, optax.OptState]
    critic: Critic | None
    baseline: Baseline


def _init_critic(key: chex.PRNGKey, num_observed: int) -> Critic:
    """Draws each layer from Uniform(-1, 1) / sqrt(fan in), PyTorch's default."""
    keys = jax.random.split(key, 4)

    def draw(key, shape, fan_in):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return Critic(
        draw(keys[0], (HIDDEN, num_observed), num_observed),
        draw(keys[1], (HIDDEN,), num_observed),
        draw(keys[2], (HIDDEN,), HIDDEN),
        draw(keys[3], (), HIDDEN),
    )


def _apply_critic(critic: Critic, x_centred: chex.Array) -> chex.Array:
    """[B] predictions of the signal from [B, D]."""
    # Hidden units first: both matrix products over the batch then run without
    # a transposition on a CPU.
    hidden = jnp.einsum("hd,bd->hb", critic.hidden, x_centred)
    return critic.out @ jnp.tanh(hidden + critic.hidden_bias[:, None]) + critic.out_bias


def _update_baseline(baseline: Baseline, elbo: chex.Array) -> Baseline:
    """Moves the running statistics towards a batch's, or starts them there."""
    kept = jnp.where(baseline.is_started, _DECAY, 0.0)

    def move(old, new):
        return kept * old + (1.0 - kept) * new

    return Baseline(
        move(baseline.mean, elbo.mean()),
        move(baseline.variance, elbo.var(ddof=1)),
        jnp.bool_(True),
    )


def pack(samples: chex.Array) -> chex.Array:
    """Binary samples [..., D] as [..., ceil(D / 32)] words: less to gather."""
    spare = [(0, 0)] * (samples.ndim - 1) + [(0, -samples.shape[-1] % _WORD)]
    bits = jnp.pad(jnp.asarray(samples, jnp.uint32), spare)
    bits = bits.reshape(*bits.shape[:-1], -1, _WORD)
    return (bits << jnp.arange(_WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def unpack(words: chex.Array, num_observed: int) -> chex.Array:
    """Packed samples [..., ceil(D / 32)] as [..., D] float zeros and ones."""
    bits = (words[..., None] >> jnp.arange(_WORD, dtype=jnp.uint32)) & 1
    bits = bits.reshape(*words.shape[:-1], -1)[..., :num_observed]
    return bits.astype(jnp.float32)


def score_function_loss(
    log_joint: chex.Array, log_q: chex.Array, signal: chex.Array
) -> chex.Array:
    """A scalar whose gradient is the algorithm's, with the sign of a descent.

    Args:
      log_joint: [B]. log P(x, h) of a draw h from q(h | x), in nats.
      log_q: [B]. log q(h | x) in nats.
      signal: [B]. Factor of each sample's gradient of log q(h | x); a constant.

    Returns:
      [].
    """
    return -(log_joint + jax.lax.stop_gradient(signal) * log_q).mean()


def mask(params: Params, live: chex.Array) -> Params:
    """The networks in which the latents that are not live are never on."""
    return Params(noisy_or.mask(params.model, live), recognition.mask(params.q, live))


def _draw(
    key: chex.PRNGKey, params: Params, x: chex.Array, x_centred: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """log P(x, h) and log q(h | x), [B] each, of a draw h from q(h | x)."""
    q_logits = recognition.logits(params.q, x_centred)
    h = jax.lax.stop_gradient(recognition.sample(key, q_logits))
    log_joint = noisy_or.log_joint(params.model, x, h)
    return log_joint, recognition.log_prob(q_logits, h)


def nvil(mean: chex.Array, config: NvilConfig | None = None) -> Learner:
    """NVIL for noisy-OR networks as a Learner.

    Batches and data are binary samples packed by `pack`: [B, ceil(D / 32)] words.
    Its metric is `elbo`, the mean one-sample evidence lower bound in nats.

    Args:
      mean: [D]. Mean of the training samples.
      config: settings; the study's if None.

    Returns:
      Learner with State as its state and Params as its parameters.
    """
    config = config or NvilConfig()
    mean = jnp.asarray(mean, jnp.float32)
    num_observed = mean.size
    theta_optimizer = optax.adam(config.theta_rate)
    q_optimizer = optax.adam(config.q_rate)

    def init(key, live):
        model_key, q_key, critic_key = jax.random.split(key, 3)
        params = Params(
            noisy_or.init(model_key, live.size, num_observed),
            recognition.init(q_key, live.size, num_observed),
        )
        return State(
            params,
            (theta_optimizer.init(params.model), q_optimizer.init(params.q)),
            _init_critic(critic_key, num_observed) if config.use_critic else None,
            Baseline(jnp.zeros(()), jnp.zeros(()), jnp.bool_(False)),
        )

    def loss(params, critic, key, baseline, live, x):
        """The score-function loss plus the critic's; also what the step carries on."""
        x_centred = x - mean
        log_joint, log_q = _draw(key, mask(params, live), x, x_centred)
        elbo = jax.lax.stop_gradient(log_joint - log_q)
        baseline = _update_baseline(baseline, elbo)
        scale = jnp.sqrt(jnp.maximum(1.0, baseline.variance))
        signal = (elbo - baseline.mean) / scale
        if critic is None:
            return score_function_loss(log_joint, log_q, signal), (baseline, elbo)
        error = signal - _apply_critic(critic, x_centred)
        total = score_function_loss(log_joint, log_q, error) + (error**2).mean()
        return total, (baseline, elbo)

    def step(key, state, live, batch):
        if batch.shape[0] < 2:
            raise ValueError("expected a batch of at least 2 samples, got 1")
        (grads, critic_grads), (baseline, elbo) = jax.grad(
            loss, argnums=(0, 1), has_aux=True
        )(
            state.params,
            state.critic,
            key,
            state.baseline,
            live,
            unpack(batch, num_observed),
        )
        theta_updates, theta_state = theta_optimizer.update(
            grads.model, state.optimizers[0]
        )
        q_updates, q_state = q_optimizer.update(grads.q, state.optimizers[1])
        params = optax.apply_updates(state.params, Params(theta_updates, q_updates))
        critic = jax.tree.map(
            lambda p, g: p - config.critic_rate * g, state.critic, critic_grads
        )
        state = State(params, (theta_state, q_state), critic, baseline)
        return state, Info(elbo.mean(), {"elbo": elbo.mean()})

    def evaluate(key, state, live, data):
        x = unpack(data, num_observed)
        log_joint, log_q = _draw(key, mask(state.params, live), x, x - mean)
        elbo = (log_joint - log_q).mean()
        return Info(elbo, {"elbo": elbo})

    return Learner(init, step, evaluate)
