"""EM against enumeration, the study's own numbers and float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or import em, model


@pytest.fixture(scope="module", params=["em_img_k8", "em_img_k12"])
def published(golden, request):
    return np.load(golden / "release2" / f"{request.param}.npz")


def _published_rates(data, epoch=1, priors="right"):
    """Rates at the start of the first or second epoch of the study's run."""
    network = noisy_or.NoisyOr(
        data["prior_logits"], data["failure_logits"], data["noise_logits"]
    )
    rates = em.rates(jax.tree.map(jnp.asarray, network))
    if epoch == 1:
        return rates
    # As its model holds them: the prior where a logit belongs, or that logit.
    prior = {"release": "m_prior_slot_release", "right": "m_prior_logits_right"}
    return em.Rates(
        jnp.float32(data[prior[priors]]),
        jnp.float32(data["m_theta"]),
        jnp.float32(data["m_leak"]),
    )


@jax.jit
def _q(rates, x, weights):
    gain, slope = em.gains(rates, weights)
    return jax.nn.sigmoid(em.q_logits(rates, x, weights * gain)), slope


def _cut(weights):
    """The study's: small weights are zero from then on, and no longer sum to one."""
    return jnp.where(weights <= 1e-3, 0.0, weights)


def _published_e_step(rates, x):
    """q and weights after each of the study's iterations, and its changes."""
    num_latents, num_observed = rates.theta.shape
    weights = jnp.full((len(x), num_latents, num_observed), 1 / num_latents)
    q, slope = _q(rates, x, weights)
    states, changes = [(q, weights)], []
    while not changes or changes[-1] > 1e-2:
        new = _cut(em.update_weights(weights, q, slope))
        changes.append(float(((new - weights) ** 2).sum()))
        weights = new
        q, slope = _q(rates, x, weights)
        states.append((q, weights))
    return states, changes


def test_e_iterations_match_the_study(published):
    data = published
    states, changes = _published_e_step(_published_rates(data), jnp.float32(data["x"]))
    assert len(changes) == data["num_e_iterations"]
    np.testing.assert_allclose(changes, data["e_changes"], rtol=1e-3, atol=1e-4)
    for place, name in ((0, "0"), (1, "1"), (2, "2"), (-1, "end")):
        q, weights = states[place]
        np.testing.assert_allclose(q, data[f"q_after_{name}"], atol=2e-5)
        if place:
            np.testing.assert_allclose(weights, data[f"w_after_{name}"], atol=2e-5)


@pytest.mark.parametrize("priors", ["release", "right"])
def test_a_second_epoch_matches_the_study(published, priors):
    """Where it runs on with a prior in place of its logit, and where it does not."""
    data = published
    rates = _published_rates(data, epoch=2, priors=priors)
    states, changes = _published_e_step(rates, jnp.float32(data["x"]))
    assert len(changes) == data[f"epoch2_num_e_iterations_{priors}"]
    for place, name in ((0, "q0"), (-1, "q_end")):
        expected = data[f"epoch2_{name}_{priors}"]
        np.testing.assert_allclose(states[place][0], expected, atol=1e-4)
    prior = jax.nn.sigmoid(em.prior_logits(states[-1][0].mean(0)))
    np.testing.assert_allclose(prior, data[f"epoch2_prior_{priors}"], atol=1e-5)
    theta, leak, _ = _published_m_step(rates, data["x"], _posterior(*states[-1]))
    np.testing.assert_allclose(theta, data[f"epoch2_theta_{priors}"], atol=1e-4)
    np.testing.assert_allclose(leak, data[f"epoch2_leak_{priors}"], atol=1e-4)


def _posterior(q, weights):
    count = jnp.zeros(len(q), jnp.int32)
    return em.Posterior(jnp.float32(weights), jnp.float32(q), jnp.zeros(len(q)), count)


def _published_posterior(data):
    return _posterior(data["q_after_end"], data["w_after_end"])


_slopes = jax.jit(em.slopes)


def test_slopes_match_the_study(published):
    data = published
    by_theta, by_leak = _slopes(
        _published_rates(data), jnp.float32(data["x"]), _published_posterior(data)
    )
    for actual, name in ((by_theta, "failure"), (by_leak, "noise")):
        expected = data[f"slope_{name}_before_m"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


def _bisect(slope, shape):
    """The study's: down to a slope or a bracket of 1e-3, with the last midpoint."""
    low, high = np.zeros(shape, np.float32), np.full(shape, 10, np.float32)
    value, has_ended = np.zeros(shape, np.float32), np.zeros(shape, bool)
    while not has_ended.all():
        value = np.where(has_ended, value, (low + high) / 2)
        found = np.asarray(slope(jnp.asarray(value)))
        low = np.where(~has_ended & (found > 0), value, low)
        high = np.where(~has_ended & (found < 0), value, high)
        has_ended |= (np.abs(found) <= 1e-3) | (high - low < 1e-3)
    return value


def _published_m_step(rates, x, posterior):
    """Theta and leak of the study's rounds, in each by the other's value before."""
    x, num_rounds, change = jnp.float32(x), 0, np.inf
    theta, leak = rates.theta, rates.leak
    while change > 1e-2:
        new_theta = _bisect(
            lambda value, leak=leak: _slopes(
                rates._replace(theta=value, leak=leak), x, posterior
            )[0],
            theta.shape,
        )
        new_leak = _bisect(
            lambda value, theta=theta: _slopes(
                rates._replace(theta=theta, leak=value), x, posterior
            )[1],
            leak.shape,
        )
        change = ((new_theta - theta) ** 2).sum() + ((new_leak - leak) ** 2).sum()
        theta, leak, num_rounds = new_theta, new_leak, num_rounds + 1
    return theta, leak, num_rounds


def test_bisection_matches_the_study(published):
    data = published
    theta, leak, num_rounds = _published_m_step(
        _published_rates(data), data["x"], _published_posterior(data)
    )
    assert num_rounds == data["num_m_rounds"]
    np.testing.assert_allclose(theta, data["m_theta"], atol=1e-5)
    np.testing.assert_allclose(leak, data["m_leak"], atol=1e-5)


def test_maximum_is_the_exact_one(published):
    data = published
    found = jax.jit(em.maximize)(
        _published_rates(data), jnp.float32(data["x"]), _published_posterior(data)
    )
    np.testing.assert_allclose(found.leak, data["exact_leak"], rtol=1e-3, atol=2e-6)
    np.testing.assert_allclose(found.theta, data["exact_theta"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        found.prior_logits, data["m_prior_logits_right"], rtol=1e-5
    )
    is_flat = data["m_theta"] == 5
    print(is_flat.sum(), np.asarray(found.theta)[is_flat], data["exact_theta"][is_flat])


def test_gradient_step_matches_the_study(published):
    data = published
    start = noisy_or.NoisyOr(
        *(jnp.asarray(data[f"{name}_logits"]) for name in ("prior", "failure", "noise"))
    )
    found = jax.jit(em.ascend)(
        start, jnp.float32(data["x"]), _published_posterior(data), 10.0
    )
    for name in ("failure", "noise"):
        actual = getattr(found, f"{name}_logits")
        np.testing.assert_allclose(actual, data[f"hybrid_{name}_logits"], atol=1e-4)
    np.testing.assert_allclose(found.prior, data["hybrid_prior"], rtol=1e-5)
