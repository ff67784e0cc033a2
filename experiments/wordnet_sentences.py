r"""The example sentences of WordNet as a corpus, one a line.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python -m experiments.wordnet_sentences --wordnet wordnet/usr/share/wordnet \
        --output wordnet.txt

Words in lower case, without punctuation: what stands in quotation marks in the glosses
of WordNet's files of nouns, verbs, adjectives and adverbs.
"""

import pathlib
import re
from collections.abc import Iterator

from absl import flags

from experiments import cli

_WORDNET = flags.DEFINE_string(
    "wordnet", None, "Directory of WordNet's data.noun, data.verb, ...", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Text to write.", required=True)

_KINDS = ("noun", "verb", "adj", "adv")
_QUOTED = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")


def _sentences(text: str) -> Iterator[str]:
    """The quoted examples of a data file; its first lines, indented, are a licence."""
    for line in text.splitlines():
        _, bar, gloss = line.partition("|")
        if not bar or line.startswith("  "):
            continue
        for example in _QUOTED.findall(gloss):
            words = _WORD.findall(example.lower())
            if words:
                yield " ".join(words)


def main() -> None:
    """Reads WordNet and writes its sentences."""
    directory = pathlib.Path(_WORDNET.value)
    texts = [(directory / f"data.{kind}").read_text("utf-8") for kind in _KINDS]
    sentences = [sentence for text in texts for sentence in _sentences(text)]
    text = "".join(f"{sentence}\n" for sentence in sentences)
    pathlib.Path(_OUTPUT.value).write_text(text, "utf-8")
    print(f"{len(sentences)} sentences in {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
