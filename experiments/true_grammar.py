"""The grammar that sentences are drawn from, and the flags that choose it."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from absl import flags

import lvm_jax
from lvm_jax import numerics, pcfg
from lvm_jax.files import release
from lvm_jax.training import Progress

_GRAMMAR = flags.DEFINE_string(
    "grammar",
    "english",
    "True grammar: english, the package's own, learned from sentences of WordNet; "
    "random; or an .npz file such as the truth.npz of a run.",
)
_CORPUS = flags.DEFINE_string(
    "corpus", None, "Learn the true grammar from this text, one sentence a line."
)
_VOCABULARY = flags.DEFINE_integer(
    "vocabulary",
    1000,
    "Words of the true grammar: of a corpus the most frequent ones, 10 000 in the "
    "paper; of a random grammar 100 unless this is given.",
    lower_bound=2,
)
_TRUE_SYMBOLS = flags.DEFINE_integer(
    "true_symbols", 10, "Symbols of each kind of the true grammar.", lower_bound=1
)
_TRUE_EPOCHS = flags.DEFINE_integer(
    "true_epochs",
    20,
    "Epochs to learn the true grammar for, 20 in the paper.",
    lower_bound=1,
)
_SHARPNESS = flags.DEFINE_float(
    "sharpness", 5.0, "Standard deviation of a random grammar's rule and word logits."
)
_RADIUS = flags.DEFINE_float(
    "radius", 0.93, "Largest spectral radius of a random grammar's expected offspring."
)

_RANDOM_VOCABULARY = 100
_BATCH = 4  # of a corpus, as in the study


class Truth(NamedTuple):
    """The true grammar with its name and vocabulary, and what it was made from."""

    name: str
    grammar: pcfg.Pcfg
    words: tuple[str, ...]
    recipe: Mapping[str, Any]


def _show(progress: Progress) -> None:
    for moment in progress.moments:
        print(
            f"true grammar, epoch {progress.epoch}: NLL per word of some sentences "
            f"{moment.held_out:.4f}"
        )


def _learn(corpus: pcfg.Corpus, seed: int, num_buckets: int) -> Truth:
    """Learns a grammar from the corpus, the model of the last epoch."""
    path = pathlib.Path(_CORPUS.value)
    lengths = pcfg.num_words(corpus.sentences)
    print(
        f"{path}: {len(lengths)} sentences of {lengths.mean():.1f} words, "
        f"{len(corpus.words)} different ones, {(corpus.sentences == 0).sum()} unknown; "
        f"skipped {corpus.num_one_word} of one word, {corpus.num_outside} for length"
    )
    bounds = pcfg.bucket_lengths(lengths, num_buckets, _BATCH)
    buckets = pcfg.to_buckets(corpus.sentences, bounds)
    level = (_TRUE_SYMBOLS.value, _TRUE_SYMBOLS.value)
    task = lvm_jax.Task(
        name=path.stem,
        learner=functools.partial(pcfg.maximum_likelihood, len(corpus.words)),
        train=lvm_jax.Buckets(buckets),
        held_out=tuple(bucket[:_BATCH] for bucket in buckets),
    )
    plan = lvm_jax.Plan(
        levels=(level,),
        seeds=(seed,),
        settings={"study": pcfg.MaximumLikelihoodHyperparams()},
        batch_size=_BATCH,
        epochs_per_call=1,
        snapshot_every=_TRUE_EPOCHS.value,
        block=1,
    )
    devices = jax.local_devices()[:1]
    results = lvm_jax.train(
        task, plan, _TRUE_EPOCHS.value, devices=devices, progress=_show
    )
    recipe = {
        "corpus": release.digest([path]),
        "seed": seed,
        "epochs": _TRUE_EPOCHS.value,
        "symbols": _TRUE_SYMBOLS.value,
        "words": corpus.words,
    }
    grammar = pcfg.grammar_of(*results.kept_model(level))
    return Truth(path.stem, grammar, corpus.words, recipe)


def load(
    *,
    seed: int,
    min_words: int,
    max_words: int,
    num_buckets: int,
) -> Truth:
    """The grammar that the flags ask for: read, learned from a corpus, or random.

    Args:
      seed: of a random or learned grammar.
      min_words: of the corpus' sentences; shorter ones are skipped.
      max_words: of the corpus' sentences; longer ones are skipped.
      num_buckets: lengths that the corpus' sentences are padded to, at most.

    Returns:
      Truth.

    Raises:
      ValueError: if both a grammar and a corpus are asked for, a file is not what it
        should be, or a value is out of range.
      OSError: if a file cannot be read.
    """
    if _CORPUS.value is not None:
        if flags.FLAGS["grammar"].present:
            raise ValueError("expected --grammar or --corpus, got both")
        if jax.process_count() > 1:
            raise ValueError(
                "expected one process to learn from --corpus, got "
                f"{jax.process_count()}: learn the grammar with --truth_only and give "
                "it as --grammar"
            )
        corpus = pcfg.read_corpus(
            _CORPUS.value,
            vocabulary=_VOCABULARY.value,
            min_words=min_words,
            max_words=max_words,
        )
        return _learn(corpus, seed, num_buckets)
    if _GRAMMAR.value == "random":
        return _draw(seed)
    path = pathlib.Path(_GRAMMAR.value)
    if _GRAMMAR.value == "english":
        path = pcfg.ENGLISH
    elif not path.is_file():
        raise ValueError(f"expected english, random or a file as grammar, got {path}")
    grammar, words = pcfg.read_grammar(path)
    return Truth(path.stem, grammar, words, {"grammar": release.digest([path])})


def _draw(seed: int) -> Truth:
    """Draws a random grammar."""
    is_given = flags.FLAGS["vocabulary"].present
    num_words = _VOCABULARY.value if is_given else _RANDOM_VOCABULARY
    shape = {"sharpness": _SHARPNESS.value, "radius": _RADIUS.value}
    grammar = pcfg.random_grammar(
        numerics.key(seed),
        _TRUE_SYMBOLS.value,
        _TRUE_SYMBOLS.value,
        num_words,
        **shape,
    )
    words = tuple(f"w{index}" for index in range(num_words))
    name = f"random grammar {seed}, sharpness {_SHARPNESS.value:g}"
    recipe = {
        "random": seed,
        "symbols": _TRUE_SYMBOLS.value,
        "vocabulary": num_words,
        **shape,
    }
    return Truth(name, grammar, words, recipe)
