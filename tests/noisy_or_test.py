"""Noisy-OR networks against enumeration, float64 and the study's own numbers."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import lvm_jax
from lvm_jax import noisy_or as family
from lvm_jax.noisy_or import NoisyOr, release
from lvm_jax.noisy_or import model as noisy_or

# Compiled, as each operation that is not is a program of its own.
_log_joint = jax.jit(noisy_or.log_joint)
_log_likelihood = jax.jit(noisy_or.log_likelihood)
_recover = jax.jit(noisy_or.recover)


def _random_network(seed, num_latents, num_observed, scale=2.0):
    random = np.random.default_rng(seed)
    return NoisyOr(
        random.normal(-1, scale, num_latents).astype(np.float32),
        random.normal(0, scale, (num_latents, num_observed)).astype(np.float32),
        random.normal(2, scale, num_observed).astype(np.float32),
    )


def _all_binary(length):
    return np.array(list(itertools.product([0, 1], repeat=length)), np.float32)


def _log_joint64(params, x, h):
    """log P(x, h) of all pairs [N, S] in float64, straight from the definition."""
    prior, failure, noise = (np.asarray(p, np.float64) for p in params)
    log_prior = h @ special.log_expit(prior) + (1 - h) @ special.log_expit(-prior)
    log_off = special.log_expit(noise) + h @ special.log_expit(failure)
    log_on = np.log(-np.expm1(log_off))
    return log_prior + x @ log_on.T + (1 - x) @ log_off.T


@pytest.fixture(scope="module")
def published(golden):
    """The study's parameters, x, h, log P(x, h), and gradients of -mean log P(x, h)."""
    data = np.load(golden / "noisy_or_log_joint.npz")
    names = ("prior", "failure", "noise")
    params = NoisyOr(*(jnp.array(data[f"{name}_logits"]) for name in names))
    grads = NoisyOr(*(data[f"grad_mean_nll_{name}"] for name in names))
    return params, data["x"], data["h"], data["log_joint"], grads


def _rounded_log_joint(params, x, h):
    """log P(x, h) as the study rounds it: P(x_d = 0 | h) is 1 - (1 - p) in float32.

    Where p is 1e-7, that is off by a third; elsewhere the two agree.
    """
    off = params.noise * jnp.prod(jnp.where(h[..., None] > 0, params.failure, 1.0), -2)
    on = 1.0 - off
    given = jnp.where(x > 0, jnp.log(on), jnp.log(1.0 - on)).sum(-1)
    return noisy_or.log_prior(params, h) + given


def _mean_nll_grad(log_joint, params, x, h):
    return jax.jit(jax.grad(lambda p: -log_joint(p, x, h).mean()))(params)


def test_log_joint_matches_the_study(published):
    params, x, h, expected, _ = published
    actual = np.asarray(_log_joint(params, x, h))
    off = np.exp(jax.jit(noisy_or._log_off)(params, h))
    is_rounded = np.where(x > 0, 1.0, off).min(-1) < 1e-5
    assert is_rounded.mean() < 0.2
    np.testing.assert_allclose(actual[~is_rounded], expected[~is_rounded], rtol=1e-5)
    with jax.disable_jit():
        rounded = _rounded_log_joint(params, x, h)
    np.testing.assert_allclose(rounded, expected, rtol=1e-5)


def test_gradients_match_the_study(published):
    params, x, h, _, expected = published
    with jax.disable_jit():
        rounded = _mean_nll_grad(_rounded_log_joint, params, x, h)
    for actual, grad in zip(rounded, expected, strict=True):
        np.testing.assert_allclose(actual, grad, rtol=1e-5, atol=1e-5 * abs(grad).max())


def test_log_joint_and_gradients_match_float64(published):
    params, x, h, _, _ = published
    wide_h, wide_x = np.float64(h), np.float64(x)
    expected = np.diag(_log_joint64(params, wide_x, wide_h))
    np.testing.assert_allclose(_log_joint(params, x, h), expected, rtol=1e-6)
    prior, failure, noise = (special.expit(np.float64(p)) for p in params)
    log_off = np.log(noise) + wide_h @ np.log(failure)
    slope = np.where(x > 0, 1 + 1 / np.expm1(log_off), 1.0)
    expected = NoisyOr(
        -(wide_h - prior).mean(0),
        -(wide_h.T @ slope) / len(x) * (1 - failure),
        -slope.mean(0) * (1 - noise),
    )
    actual = _mean_nll_grad(_log_joint, params, x, h)
    for grad, wide in zip(actual, expected, strict=True):
        np.testing.assert_allclose(grad, wide, rtol=1e-5, atol=1e-6 * abs(wide).max())


def test_probabilities_sum_to_one():
    params = _random_network(0, num_latents=4, num_observed=8)
    total = special.logsumexp(_log_likelihood(params, _all_binary(8)))
    np.testing.assert_allclose(total, 0, atol=1e-5)


@pytest.mark.parametrize("num_latents", [1, 5, 13])
def test_log_likelihood_matches_float64(num_latents):
    params = _random_network(1, num_latents, num_observed=20)
    x = np.random.default_rng(2).integers(0, 2, (7, 20)).astype(np.float32)
    expected = special.logsumexp(
        _log_joint64(params, x, _all_binary(num_latents)), axis=1
    )
    actual = noisy_or.log_likelihood(params, x)  # As one calls it to try it.
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_log_likelihood_at_extreme_logits_matches_float64():
    random = np.random.default_rng(3)
    params = NoisyOr(
        random.choice([-30, 0, 30], 9).astype(np.float32),
        random.choice([-30, -3, 3, 30], (9, 24)).astype(np.float32),
        random.choice([-30, 30], 24).astype(np.float32),
    )
    x = random.integers(0, 2, (30, 24)).astype(np.float32)
    states = _all_binary(9)
    expected = _log_joint64(params, x, states)
    actual = _log_joint(params, x[:, None], states)
    np.testing.assert_allclose(actual, expected, rtol=2e-5)
    np.testing.assert_allclose(
        _log_likelihood(params, x),
        special.logsumexp(expected, axis=1),
        rtol=2e-5,
    )
    grads = jax.jit(jax.grad(lambda p: _log_likelihood(p, x).mean()))(params)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_certain_probabilities_stay_finite():
    with pytest.raises(ValueError, match=r"expected failures from 0 to 1, got 2$"):
        noisy_or.from_probabilities([0.5], [[0.0, 2.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"expected priors from 0 to 1, got nan"):
        noisy_or.from_probabilities([np.nan], [[0.0, 1.0]], [1.0, 1.0])
    params = noisy_or.from_probabilities([0.5], [[0.0, 1.0]], [1.0, 1.0])
    x = _all_binary(2)
    log_joint = np.array(_log_joint(params, x[:, None], np.array([[0.0], [1.0]])))
    is_possible = np.zeros((4, 2), bool)
    is_possible[0, 0] = is_possible[2, 1] = True  # the latent turns on variable 0 only
    np.testing.assert_allclose(log_joint[is_possible], np.log(0.5), rtol=1e-6)
    assert (log_joint[~is_possible] < -60).all()


def test_enumeration_refuses_wide_networks():
    params = _random_network(0, num_latents=21, num_observed=3)
    with pytest.raises(ValueError, match="at most 20 latents to enumerate, got 21"):
        noisy_or.log_likelihood(params, np.zeros((1, 3)))


def test_log_posterior_is_bayes_rule():
    params = _random_network(4, num_latents=3, num_observed=6)
    x = _all_binary(6)[::7]
    # Latent k of state s is bit k of s: the reverse of the product's order.
    states = _all_binary(3)[:, ::-1]
    joint = _log_joint64(params, x, states)
    expected = joint - special.logsumexp(joint, axis=1, keepdims=True)
    np.testing.assert_allclose(
        jax.jit(noisy_or.log_posterior)(params, x), expected, rtol=1e-4, atol=1e-5
    )


def test_sample_frequencies_match_exact_probabilities():
    params = _random_network(5, num_latents=3, num_observed=4, scale=1.0)
    num_samples = 40_000
    sample = jax.jit(noisy_or.sample, static_argnums=2)
    x, h = sample(jax.random.key(0), params, num_samples)
    patterns = np.concatenate([x, h], axis=1) @ (1 << np.arange(7))
    counts = np.bincount(patterns, minlength=128)
    cells = ((np.arange(128)[:, None] >> np.arange(7)) & 1).astype(np.float32)
    log_joint = _log_joint(params, cells[:, :4], cells[:, 4:])
    expected = num_samples * np.exp(np.float64(log_joint))
    common = np.asarray(expected) > 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], num_samples - expected[common].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_samples_of_given_latents_have_their_probabilities():
    params = _random_network(5, num_latents=3, num_observed=4, scale=1.0)
    h = np.repeat([[0, 0, 0], [1, 0, 1]], 20_000, axis=0)
    x = jax.jit(noisy_or.sample_given_latents)(jax.random.key(0), params, h)
    off = params.noise * np.prod(np.where(h[::20_000, :, None], params.failure, 1), 1)
    means = np.asarray(x).reshape(2, -1, 4).mean(1)
    spread = np.sqrt(off * (1 - off) / 20_000)
    assert (np.abs(means - (1 - off)) < 4.5 * spread).all()


def test_masked_latents_change_nothing():
    narrow = _random_network(6, num_latents=3, num_observed=10)
    wide = _random_network(7, num_latents=5, num_observed=10)
    wide = NoisyOr(
        np.concatenate([narrow.prior_logits, wide.prior_logits[3:]]),
        np.concatenate([narrow.failure_logits, wide.failure_logits[3:]]),
        narrow.noise_logits,
    )
    x = np.random.default_rng(8).integers(0, 2, (20, 10)).astype(np.float32)
    masked = noisy_or.mask(wide, jnp.array([1, 1, 1, 0, 0]))
    np.testing.assert_allclose(
        _log_likelihood(masked, x),
        _log_likelihood(narrow, x),
        rtol=1e-5,
    )


def test_recovery_matches_the_study(golden, release_dir):
    truth = release.read_params(
        release_dir / "noisyor" / "datasets" / "IMG" / "true_params"
    )
    cases = json.loads((golden / "img_recovery.json").read_text())
    assert len(cases) == 8
    for case in cases:
        params = release.read_model(golden / case["file"])
        recovery = _recover(truth, params)
        pairs = [[t, int(k)] for t, k in enumerate(recovery.matched) if k >= 0]
        assert pairs == case["matched_pairs"], case["file"]
        survivors = np.flatnonzero(~np.asarray(recovery.discarded)).tolist()
        assert survivors == case["survive_threshold"], case["file"]
        assert recovery.num_recovered == case["matched"]
        assert recovery.num_kept == case["num_after_filter"]
        assert recovery.num_recovered_after_filter == case["matched_after_filter"]


def test_recover_finds_copies_and_names_the_rest():
    truth = noisy_or.from_probabilities(
        [0.3, 0.2], [[0.1] * 8 + [1.0] * 8, [1.0] * 8 + [0.1] * 8], [0.99] * 16
    )
    learned = noisy_or.from_probabilities(
        [0.15, 0.25, 0.01, 0.3, 0.3],
        [
            [1.0] * 8 + [0.12] * 8,  # truth 1, with the lower prior
            [1.0] * 8 + [0.11] * 8,  # truth 1
            [0.1] * 8 + [1.0] * 8,  # truth 0, but never on
            [0.9] * 16,  # no effect
            [0.1] * 4 + [0.5] * 12,  # something else
        ],
        [0.99] * 16,
    )
    recovery = _recover(truth, learned)
    np.testing.assert_array_equal(recovery.matched, [-1, 1])
    np.testing.assert_array_equal(recovery.discarded, [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(recovery.duplicate, [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(recovery.kept, [0, 1, 0, 0, 1])
    assert recovery.num_recovered == recovery.num_recovered_after_filter == 1


def test_recover_ignores_padding_and_nan():
    truth = noisy_or.from_probabilities([0.3], [[0.1, 1.0]], [0.99, 0.99])
    doubled = NoisyOr(
        jnp.repeat(truth.prior_logits, 2),
        jnp.repeat(truth.failure_logits, 2, axis=0),
        truth.noise_logits,
    )
    recovery = _recover(truth, doubled, jnp.array([0.0, 1.0]))
    assert recovery.matched.tolist() == [1] and recovery.num_kept == 1
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, doubled)
    assert _recover(truth, broken).num_recovered == 0


_CHILDREN = np.eye(2).repeat(8, axis=1) > 0


def _two_latents(prior=(0.3, 0.2), failure=None):
    """Each with eight children of its own, whose failures are 0.1 if not given."""
    if failure is None:
        failure = np.where(_CHILDREN, 0.1, 1.0)
    return noisy_or.from_probabilities(prior, failure, [0.99] * 16)


@pytest.mark.parametrize(
    ("gap", "matched"), [(0.99, 0), (-0.99, 0), (1.01, -1), (-1.01, -1)]
)
def test_a_match_is_within_one_in_the_logarithm_of_every_failure(gap, matched):
    failure = np.where(_CHILDREN, 0.1, 1.0)
    failure[0, 3] *= np.exp(gap)
    found = _recover(_two_latents(), _two_latents(failure=failure))
    assert found.matched.tolist() == [matched, 1]


@pytest.mark.parametrize(("prior", "is_on"), [(0.021, True), (0.019, False)])
def test_a_latent_that_is_hardly_ever_on_is_no_latent(prior, is_on):
    """As truth and as learned; only learned ones are filtered."""
    rare, common = _two_latents((prior, 0.2)), _two_latents()
    for truth, model in ((rare, common), (common, rare)):
        found = _recover(truth, model)
        assert found.matched.tolist() == [0 if is_on else -1, 1]
        assert found.kept.tolist() == [is_on or model is common, True]


@pytest.mark.parametrize(("failure", "is_used"), [(0.79, True), (0.81, False)])
def test_a_latent_without_effect_matches_until_it_is_filtered(failure, is_used):
    failures = np.where(_CHILDREN, [[failure], [0.1]], 1.0)
    failures[0, 0] = 0.85  # The least one decides.
    network = _two_latents(failure=failures)
    found = _recover(network, network)
    assert found.discarded.tolist() == [not is_used, False]
    assert found.kept.tolist() == [is_used, True] and found.num_kept == 1 + is_used
    assert found.matched.tolist() == [0, 1] and found.num_recovered == 2
    assert found.num_recovered_after_filter == 1 + is_used


@pytest.mark.parametrize(("distance", "is_copy"), [(3.9, True), (4.1, False)])
@pytest.mark.parametrize("prior", [(0.3, 0.2), (0.2, 0.3)])
def test_of_two_latents_within_four_of_each_other_the_rarer_is_a_copy(
    distance, is_copy, prior
):
    failure = np.where(_CHILDREN[:1], [[0.1], [0.1 + distance / 8]], 1.0)
    found = _recover(_two_latents(), _two_latents(prior, failure))
    copies = [is_copy and own < max(prior) for own in prior]
    assert found.duplicate.tolist() == copies
    assert found.kept.tolist() == [not is_copy for is_copy in copies]


def test_one_half_of_what_is_held_out_chooses_and_the_other_reports():
    dataset = family.make("IMG", lvm_jax.key(0), 100)
    packed = family.pack(dataset.samples)
    task = family.task(dataset, num_held_out=15)
    np.testing.assert_array_equal(task.validation, packed[:7])
    np.testing.assert_array_equal(task.held_out, packed[7:15])
    np.testing.assert_array_equal(task.train, packed[15:])
    assert task.recipe["validation"] == 7 and task.recipe["held_out"] == 8
    with pytest.raises(ValueError, match=r"at least 2 held-out samples, .* got 1"):
        family.task(dataset, num_held_out=1)
