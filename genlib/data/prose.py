"""English prose, as symbols."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import Tensor


class Prose(NamedTuple):
    """English text as symbols, in three parts that share no topic. `prose` makes it.

    Attributes:
        train: topic → its text, (L,) int64, the places of its characters in `ALPHABET`.
        valid: the same, for choosing settings.
        test: the same, for the last word.
    """

    train: dict[str, Tensor]
    valid: dict[str, Tensor]
    test: dict[str, Tensor]

    @staticmethod
    def decode(x: Tensor) -> str:
        """Turn symbols (L,) into text."""
        return "".join(ALPHABET[i] for i in x.tolist())

    @staticmethod
    def encode(text: str) -> Tensor:
        """Turn text into symbols (L,); it may hold characters of the alphabet only."""
        strange = sorted(set(text) - set(ALPHABET))
        if strange or not text:
            raise ValueError(f"text must hold characters of the alphabet, got {strange or text!r}")
        place = {character: i for i, character in enumerate(ALPHABET)}
        return torch.tensor([place[character] for character in text])


ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
_PLAIN = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": "-",
        "\u2013": "-",
        "\u2026": "...",
    }
)


def prose(*, repeats: bool = False) -> Prose:
    """The help texts on Python's language that come with Python itself, split by topic.

    Quotation marks and dashes become those of ASCII, what is left outside it becomes "?", and white space inside a
    paragraph one blank. Paragraphs end in a line break. Of the topics, largest first, two in seven are held out: the
    fourth and the sixth. The text differs between versions of Python.

    Args:
        repeats: keep the paragraphs of 40 characters or more that stand in an earlier topic too. Many of these texts
            contain each other: with repeats the held-out parts are no longer new.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    full, new = {}, {}  # topic → its paragraphs, and those that no earlier topic has
    for topic, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text.translate(_PLAIN)))
        full[topic] = [
            block.encode("ascii", "replace").decode() for block in blocks if re.search(r"\w", block)
        ]
        new[topic] = [block for block in full[topic] if block not in seen]
        seen.update(block for block in full[topic] if len(block) >= 40)  # a short one may well come twice
    size = {topic: sum(map(len, blocks)) for topic, blocks in new.items()}
    parts = Prose({}, {}, {})
    long_enough = sorted(
        (topic for topic in size if size[topic] >= 200), key=lambda topic: (-size[topic], topic)
    )
    for place, topic in enumerate(long_enough):
        part = {3: parts.test, 5: parts.valid}.get(place % 7, parts.train)
        part[topic] = parts.encode("\n".join((full if repeats else new)[topic]) + "\n")
    return parts
