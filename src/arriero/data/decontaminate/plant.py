"""A self-test: items are planted into made-up documents in the ways in which they get into corpora, then looked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from arriero.data.decontaminate.index import Index
from arriero.data.decontaminate.items import Item
from arriero.data.decontaminate.normalise import form_of, normalised_words
from arriero.data.decontaminate.overlap import Totals, items_in
from arriero.data.decontaminate.settings import Decontamination
from arriero.data.dedup.words import words_of

WAYS = ("whole", "line_broken", "embedded", "case_and_punctuation")
_HOST_WORDS = 400
_PUNCTUATION = ",.;:!?"


def plant_test(
    items: Sequence[Item], searched: Sequence[int], index: Index, settings: Decontamination, seed: int = 0
) -> dict[str, Any]:
    """Recall of planted items by way, and precision over all that was found.

    Hosts are made of the items' own words in random order, which is harder than other text; as many documents without
    any item are among them. What is found counts as right where a plain comparison of the words, without hashes,
    says the same.
    """
    draw = random.Random(seed)
    chosen = draw.sample(list(searched), min(settings.plant, len(searched)))
    if not chosen:
        return {"planted": 0}
    vocabulary = sorted({word for number in chosen for word in plain_words(items[number].text)})
    totals = Totals(index)
    found_all = right = 0
    recalled = dict.fromkeys(WAYS, 0)
    for number in chosen:
        for way in WAYS:
            text = planted(items[number].text, way, vocabulary, draw)
            found = {
                one.item
                for one in items_in(index.find(*normalised_words(text)), index, totals, settings.overlap)
            }
            recalled[way] += number in found
            found_all += len(found)
            right += sum(holds(text, items[one].text, settings) for one in found)
        clean = _host(vocabulary, draw)
        found = {
            one.item
            for one in items_in(index.find(*normalised_words(clean)), index, totals, settings.overlap)
        }
        found_all += len(found)
        right += sum(holds(clean, items[one].text, settings) for one in found)
    return {
        "planted": len(chosen) * len(WAYS),
        "clean": len(chosen),
        "recall": sum(recalled.values()) / (len(chosen) * len(WAYS)),
        "recall_by_way": {way: count / len(chosen) for way, count in recalled.items()},
        "found": found_all,
        "precision": right / found_all if found_all else 1.0,
    }


def planted(text: str, way: str, vocabulary: Sequence[str], draw: random.Random) -> str:
    """A document that holds an item in one of the WAYS."""
    if way == "whole":
        return text
    host = _host(vocabulary, draw).split()
    place = draw.randrange(len(host) + 1)
    if way == "line_broken":
        pieces = text.split()
        text = "\n".join(" ".join(pieces[start : start + 4]) for start in range(0, len(pieces), 4))
    elif way == "case_and_punctuation":
        pieces = [draw.choice((word.upper(), word.lower(), word.title())) for word in text.split()]
        text = " ".join(word + draw.choice(("", "", *_PUNCTUATION)) for word in pieces)
    return " ".join(host[:place]) + "\n" + text + "\n" + " ".join(host[place:])


def _host(vocabulary: Sequence[str], draw: random.Random) -> str:
    return " ".join(draw.choices(vocabulary, k=_HOST_WORDS))


def plain_words(text: str) -> list[str]:
    """Normalised words as strings."""
    form = form_of(text)
    data, words = form.encode("utf-8", "surrogatepass"), words_of(form)
    places = zip(words.start.tolist(), words.end.tolist(), strict=True)
    return [data[start:end].decode("utf-8", "surrogatepass") for start, end in places]


def holds(document: str, item: str, settings: Decontamination) -> bool:
    """Whether a document holds enough of an item, by comparing words: the definition, slowly."""
    there, words = plain_words(document), plain_words(item)
    sizes = [n for n in settings.ngrams if n <= len(words)] or [len(words)]
    for n in sizes:
        wanted = {tuple(words[place : place + n]) for place in range(len(words) - n + 1)}
        held = {tuple(there[place : place + n]) for place in range(len(there) - n + 1)}
        if len(wanted & held) >= settings.overlap * len(wanted):
            return True
    return False
