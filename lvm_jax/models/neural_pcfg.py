"""Grammars whose probabilities come from networks on embeddings of their symbols.

    log P(A -> B C | A)  = log softmax_BC (rule_BC . e_A + bias_BC)
    log P(A | root)      = log softmax_A  (root_A . f(e_root) + bias_A)
    log P(word | P)      = log softmax_w  (word_w . g(e_P) + bias_w)

with embeddings e of 256 numbers, and f and g each a linear layer and two residual
blocks of two ReLU layers. Source: Buhai et al. 2020, on neural PCFGs; Kim, Dyer and
Rush, "Compound Probabilistic Context-Free Grammars for Grammar Induction", ACL 2019,
section 2.2.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from lvm_jax.models import pcfg
from lvm_jax.models.pcfg import Live, Pcfg

DIMENSION = 256  # of embeddings and hidden layers, as in the study
_BOUND = 0.1  # of the initial parameters, as in the study


def _uniform(key, shape, dtype=jnp.float32):
    """Uniform(-0.1, 0.1). The first rows of a wider draw are the draw of so many."""
    return jax.random.uniform(key, shape, dtype, -_BOUND, _BOUND)


def _uniform_pairs(key, shape, num_nonterminals):
    """Uniform [S, S, ...] over pairs of symbols, whatever the number of each kind.

    Every symbol draws with its kind and its number within the kind folded in, so that
    the draws of a grammar are those of a wider one.
    """
    sizes = num_nonterminals, shape[0] - num_nonterminals

    def row(key):
        parts = [
            _uniform(jax.random.fold_in(key, kind), (size, *shape[2:]))
            for kind, size in enumerate(sizes)
        ]
        return jnp.concatenate(parts)

    def rows(key, size):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(size))
        return jax.vmap(row)(keys)

    parts = [
        rows(jax.random.fold_in(key, kind), size) for kind, size in enumerate(sizes)
    ]
    return jnp.concatenate(parts)


class _Perceptron(nn.Module):
    """A linear layer and two residual blocks of two ReLU layers."""

    @nn.compact
    def __call__(self, x):
        dense = functools.partial(
            nn.Dense, DIMENSION, kernel_init=_uniform, bias_init=_uniform
        )
        x = dense()(x)
        for _ in range(2):
            x = x + nn.relu(dense()(nn.relu(dense()(x))))
        return x


class NeuralPcfg(nn.Module):
    """The networks; calling them gives the logits of a grammar.

    Symbol axes come first in every parameter, N nonterminals before T preterminals.

    Attributes:
      num_nonterminals: N.
      num_preterminals: T.
      num_words: V.
    """

    num_nonterminals: int
    num_preterminals: int
    num_words: int

    @nn.compact
    def __call__(self) -> Pcfg:
        """Logits of the grammar's probabilities, a Pcfg."""
        num, preterminals = self.num_nonterminals, self.num_preterminals
        size = num + preterminals
        root = self.param("root", _uniform, (1, DIMENSION))
        nonterminals = self.param("nonterminals", _uniform, (num, DIMENSION))
        terminals = self.param("preterminals", _uniform, (preterminals, DIMENSION))
        root_weight = self.param("root_weight", _uniform, (num, DIMENSION))
        root_bias = self.param("root_bias", _uniform, (num,))
        rule_weight = self.param(
            "rule_weight", _uniform_pairs, (size, size, DIMENSION), num
        )
        rule_bias = self.param("rule_bias", _uniform_pairs, (size, size), num)
        words = nn.Dense(
            self.num_words, kernel_init=_uniform, bias_init=_uniform, name="words"
        )
        hidden_root = _Perceptron(name="root_network")(root)[0]
        hidden_words = _Perceptron(name="word_network")(terminals)
        flat = rule_weight.reshape(size * size, DIMENSION)
        rules = jnp.einsum("ad,pd->ap", nonterminals, flat)
        return Pcfg(
            root_weight @ hidden_root + root_bias,
            rules.reshape(num, size, size) + rule_bias,
            words(hidden_words),
        )


def init(key: chex.PRNGKey, live: Live, num_words: int) -> dict:
    """Draws every parameter from Uniform(-0.1, 0.1), as the study does.

    Args:
      key: random key.
      live: masks, of the sizes N and T. The draws of a symbol do not depend on them.
      num_words: V.

    Returns:
      Parameters of `NeuralPcfg`, a tree of arrays.
    """
    return _module(live, num_words).init(key)["params"]


def grammar(params: dict, live: Live) -> Pcfg:
    """The grammar of the networks, in which dead symbols are impossible.

    Args:
      params: of `init`.
      live: masks of the symbols.

    Returns:
      Pcfg with N nonterminals and T preterminals.
    """
    num_words = params["words"]["bias"].size
    logits = _module(live, num_words).apply({"params": params})
    return pcfg.normalise(logits, live)


def _module(live: Live, num_words: int) -> NeuralPcfg:
    nonterminals, preterminals = live
    return NeuralPcfg(nonterminals.size, preterminals.size, num_words)
