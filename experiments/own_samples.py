r"""Real data as samples of a user's own: digits, words of definitions, image patches.

    pip install -e '.[bench]'
    python -m experiments.own_samples --source digits --output digits.csv
    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python -m experiments.own_samples --source definitions \
        --wordnet wordnet/usr/share/wordnet --output definitions.csv
    python -m experiments.own_samples --source patches --output patches.csv

Digits: the 1797 images of scikit-learn (UCI ML Repository, CC BY 4.0), 8x8 pixels that
are on where they are at least 8 of 16. Definitions: which of the 200 words that most
definitions of WordNet's nouns (WordNet 3.0 licence) have, stop words left out, are in
each definition with two of them at least; the header has the words. Patches: 10 000
of 8x8 pixels of scikit-learn's two photographs (CC BY 2.0 and 3.0), logarithms of grey
less their mean, those of the upper half of contrast, scaled to one contrast; whitened,
with a tenth of the largest variance added to each.
"""

import pathlib
import re

import numpy as np
from absl import flags
from sklearn import datasets
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.feature_extraction.text import CountVectorizer

from experiments import cli

_SOURCE = flags.DEFINE_enum(
    "source", None, ["digits", "definitions", "patches"], "Which data.", required=True
)
_WORDNET = flags.DEFINE_string(
    "wordnet", None, "Directory of WordNet's data.noun, for definitions."
)
_OUTPUT = flags.DEFINE_string("output", None, "CSV to write.", required=True)

_LEAST_ON = 8  # of a pixel, from 0 to 16
_NUM_WORDS = 200
_LEAST_WORDS = 2  # of a definition
_SIDE, _NUM_PATCHES = 8, 10_000  # pixels; half are drawn from each photograph
_WHITENING = 0.1  # of the largest variance, added to each
_QUOTED = re.compile(r'"[^"]*"|\([^)]*\)')  # examples and remarks


def digits() -> np.ndarray:
    """[1797, 64] pixels that are on."""
    return datasets.load_digits().data >= _LEAST_ON


def definitions(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """The words, and [N, 200] which of them each definition has.

    Args:
      path: data.noun of WordNet; its first lines, indented, are a licence.
    """
    lines = path.read_text("utf-8").splitlines()
    glosses = [
        _QUOTED.sub(" ", line.partition("|")[2])
        for line in lines
        if not line.startswith("  ")
    ]
    vectorizer = CountVectorizer(
        binary=True,
        stop_words="english",
        max_features=_NUM_WORDS,
        token_pattern=r"[a-z]{3,}",
    )
    has_word = vectorizer.fit_transform(glosses).toarray() > 0
    samples = has_word[has_word.sum(1) >= _LEAST_WORDS]
    return vectorizer.get_feature_names_out().tolist(), samples


def patches() -> np.ndarray:
    """[10000, 64] whitened patches, of a root mean square length of one."""
    random, drawn = np.random.RandomState(0), []
    for image in datasets.load_sample_images().images:
        grey = np.log1p(image.mean(2))
        found = extract_patches_2d(
            grey, (_SIDE, _SIDE), max_patches=_NUM_PATCHES, random_state=random
        ).reshape(-1, _SIDE * _SIDE)
        found -= found.mean(1, keepdims=True)
        contrast = np.linalg.norm(found, axis=1, keepdims=True)
        is_high = contrast[:, 0] >= np.median(contrast)
        drawn.append((found[is_high] / contrast[is_high])[: _NUM_PATCHES // 2])
    every = np.concatenate(drawn)
    every = every[random.permutation(len(every))] - every.mean(0)
    variances, axes = np.linalg.eigh(np.cov(every.T))
    scales = (variances / variances.max() + _WHITENING) ** -0.5
    white = every @ (axes * scales) @ axes.T
    return white / np.sqrt(np.square(white).sum(1).mean())


def main() -> None:
    """Converts the data."""
    header, form = [], "d"
    if _SOURCE.value != "definitions":
        cli.refuse(f"--source {_SOURCE.value}", "wordnet")
    if _SOURCE.value == "digits":
        samples = digits()
    elif _SOURCE.value == "patches":
        samples, form = patches(), ".6f"
    elif _WORDNET.value is None:
        raise ValueError("expected --wordnet with --source definitions, got none")
    else:
        names, samples = definitions(pathlib.Path(_WORDNET.value) / "data.noun")
        header = [",".join(names)]
    rows = (",".join(format(value, form) for value in row) for row in samples)
    text = "\n".join([*header, *rows]) + "\n"
    pathlib.Path(_OUTPUT.value).write_text(text, "utf-8")
    print(f"{samples.shape[0]} samples of {samples.shape[1]} in {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
