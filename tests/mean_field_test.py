"""The mean field learner against the study's own, and against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lvm_jax import noisy_or
from lvm_jax.noisy_or.mean_field import (
    draw,
    elbo,
    log_odds,
    negative_log_joint,
    terms,
    update,
)

_BYTE = 256.0


def _uniforms(numbers):
    """[K, S] of the golden bytes [S, K]."""
    return jnp.float32((numbers.T + 0.5) / _BYTE)


@pytest.fixture(scope="module", params=[8, 16])
def study(request, golden):
    """Arrays of the release: three data points in a row."""
    with np.load(golden / "release2" / f"mean_field_img_k{request.param}.npz") as file:
        return dict(file)


def _networks(study):
    """The network before each point, and after the last."""
    names = ("prior_logits", "failure_logits", "noise_logits")
    before = [study[name][None] for name in names]
    after = [study[f"{name}_after_step"] for name in names]
    stacked = map(np.concatenate, zip(before, after, strict=True))
    return [noisy_or.NoisyOr(*leaves) for leaves in zip(*stacked, strict=True)]


@pytest.fixture(scope="module")
def draws(study):
    """[point, sweep, place, S, K] of the release, before h_k is overwritten."""
    shape = study["u_sweeps_byte"].shape
    h = np.unpackbits(study["h_sweeps_packed"])[: np.prod(shape)]
    return h.reshape(shape)


def test_every_update_is_the_studys(study, draws):
    compiled = jax.jit(update)
    for point, network in enumerate(_networks(study)[:3]):
        of, x = jax.jit(terms)(network), jnp.float32(study["x"][point])
        q = study["q_init"][point]
        for place in np.ndindex(study["order"].shape[1:]):
            place = point, *place
            uniforms = _uniforms(study["u_sweeps_byte"][place])
            h = draw(uniforms, q)
            np.testing.assert_array_equal(h.T, draws[place])
            q = compiled(of, x, q, study["order"][place], uniforms)
            expected = study["q_after_update"][place]
            np.testing.assert_allclose(q, expected, rtol=2e-5, atol=1e-7)


def test_mean_log_joints_and_their_difference_are_the_studys(study, draws):
    def both(network, x, h, latent):
        of = terms(network)
        set_to = [jnp.float32(h.at[latent].set(value > 0)).T for value in (0, 1)]
        log_joints = [noisy_or.log_joint(network, x, h).mean() for h in set_to]
        return log_odds(of, x, h, latent), jnp.stack(log_joints)

    compare = jax.jit(jax.vmap(both, (None, None, 0, 0)))
    for point, network in enumerate(_networks(study)[:3]):
        h = draws[point].reshape(-1, *draws.shape[3:]).swapaxes(1, 2) > 0
        latents = study["order"][point].reshape(-1)
        odds, log_joints = compare(network, jnp.float32(study["x"][point]), h, latents)
        expected = study["mean_log_joint"][point].reshape(-1, 2)
        np.testing.assert_allclose(log_joints, expected, rtol=1e-5)
        difference = expected[:, 1] - expected[:, 0]
        np.testing.assert_allclose(odds, difference, rtol=2e-5, atol=2e-5)


def test_bounds_gradients_and_steps_are_the_studys(study):
    names = ("prior", "failure", "noise")
    adam = optax.adam(study["rate"].item())
    networks = _networks(study)
    state = adam.init(networks[0])
    for point, network in enumerate(networks[:3]):
        x = jnp.float32(study["x"][point])[None]
        q = study["q_after_update"][point, -1, -1]
        h = draw(_uniforms(study["u_elbo_byte"][point]), q)
        np.testing.assert_array_equal(h.T, study["h_elbo"][point])
        h = jnp.float32(h.T)[:, None]
        bounds = elbo(network, x, q[None], h)[:, 0]
        expected = study["log_joint"][point] - study["log_q"][point]
        np.testing.assert_allclose(bounds, expected, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(bounds.mean(), study["elbo"][point], rtol=2e-6)
        gradient = jax.grad(negative_log_joint)(network, x, h)
        for leaf, name in zip(gradient, names, strict=True):
            expected = study[f"grad_sum_nll_{name}"][point]
            error = np.abs(leaf - expected).max()
            assert error <= 3e-6 * np.abs(expected).max(), (name, error)
        updates, state = adam.update(gradient, state)
        moved = optax.apply_updates(network, updates)
        for a, b in zip(moved, networks[point + 1], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
