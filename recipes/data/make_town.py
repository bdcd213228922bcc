"""Writes town.txt.gz: made-up days of made-up people, on which small encoders can be judged in minutes.

What a hidden word is follows from afar and not from its neighbours (who this day is about, whose thing is what, which
theme). A day's people are introduced first, so the order of two segments can be told; two days differ in people and
theme, so whether two segments are of one day can be told, and neither tells the other.

    python recipes/data/make_town.py recipes/data/town.txt.gz
"""

from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path

DAYS = 2500
WOMEN = ["anna", "clara", "emma", "greta", "ida", "julia", "laura", "maria", "nina", "olga", "rosa", "vera"]
MEN = ["adam", "bruno", "carl", "david", "emil", "felix", "georg", "hugo", "ivan", "karl", "leo", "oscar"]
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "brown", "grey", "golden", "silver"]
THINGS = ["kite", "lamp", "coat", "chair", "drum", "basket", "boat", "clock", "hat", "rope", "knife", "mirror"]
TRADES = ["baker", "smith", "doctor", "painter", "weaver", "miller", "teacher", "driver", "tailor", "nurse"]
THEMES = {
    "farm": ("cow horse hen goat barn hay plough field", "fed led washed counted"),
    "sea": ("shell crab sail net wave gull anchor harbour", "caught watched steered found"),
    "kitchen": ("bread soup pot spoon oven butter plate onion", "cooked cut tasted baked"),
    "school": ("book pen map desk lesson poem sum page", "read wrote learnt copied"),
    "garden": ("rose spade bean apple fence bee seed well", "planted picked watered dug"),
    "market": ("coin cloth stall scale cheese cart price bag", "bought sold weighed carried"),
    "forest": ("oak fox path owl moss deer stream cabin", "followed saw heard crossed"),
    "music": ("song flute choir string dance stage tune bell", "sang played rang practised"),
}


def day(rng: random.Random) -> str:
    """One document: two people are introduced, then do five or six things."""
    theme = rng.choice(list(THEMES))
    nouns, verbs = (words.split() for words in THEMES[theme])
    first, second = rng.sample(WOMEN + MEN, 2)
    he, his = ("she", "her") if first in WOMEN else ("he", "his")
    things = rng.sample(THINGS, 2)
    mine, theirs = (f"{rng.choice(COLOURS)} {thing}" for thing in things)
    verb, noun = lambda: rng.choice(verbs), lambda: rng.choice(nouns)
    kinds = (
        lambda: f"{first} took the {mine} to the {noun()}",
        lambda: f"{second} had the {theirs} near the {noun()}",
        lambda: f"{he} {verb()} the {noun()} with {second}",
        lambda: f"{first} and {second} {verb()} the {noun()}",
        lambda: f"the {mine} of {first} lay beside the {noun()}",
        lambda: f"{second} asked {first} for {his} {mine}",
    )
    opening = f"the {rng.choice(TRADES)} {first} met the {rng.choice(TRADES)} {second} at the {theme}"
    rest = [rng.choice(kinds)() for _ in range(rng.randint(4, 5))]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in [opening, *rest])


def main(path: str) -> None:
    rng = random.Random(1)
    text = "\n\n\n".join(day(rng) for _ in range(DAYS)) + "\n"
    with Path(path).open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main(sys.argv[1])
