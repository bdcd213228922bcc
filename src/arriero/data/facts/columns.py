"""The facts of a text: names, types, units and what they are, in the order of the ledger's columns.

A *word* is what the settings say; a *token* is what lies between white space. A *line* ends where ``str.splitlines``
says unless a fact says otherwise; a *filled line* lies between line feeds and is not blank. Shares are from 0 to 1, and
0 where there is nothing to divide by.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FactColumn:
    """One fact. ``dtype`` is numpy's name: int64 for counts, float64 for shares and means."""

    name: str
    dtype: str
    unit: str
    doc: str


def _count(name: str, unit: str, doc: str) -> FactColumn:
    return FactColumn(name, "int64", unit, doc)


def _share(name: str, doc: str) -> FactColumn:
    return FactColumn(name, "float64", "share", doc)


def _figure(name: str, unit: str, doc: str) -> FactColumn:
    return FactColumn(name, "float64", unit, doc)


_SIZE = (
    _count("bytes", "bytes", "length of the text in UTF-8"),
    _count("characters", "characters", "length of the text in code points"),
    _count("words", "words", "words, punctuation marks that stand alone among them"),
    _count("plain_words", "words", "words that are not just punctuation (Gopher's word count in datatrove)"),
    _count("tokens", "tokens", "what lies between white space"),
    _count("lines", "lines", "lines as str.splitlines cuts them (Gopher, C4)"),
    _count("filled_lines", "lines", "lines between line feeds that are not blank (FineWeb, CCNet)"),
    _count("paragraphs", "paragraphs", "stretches between empty lines, of the text without blank ends"),
    _count("sentences", "sentences", "sentences, each line on its own"),
)
_WORDS = (
    _figure("mean_word_length", "characters", "mean length of the plain words (Gopher)"),
    _count("median_word_length", "characters", "lower median of the lengths of all words; 255 for longer"),
    _figure("mean_token_length", "characters", "mean length of the tokens (RedPajama v2)"),
    _count("longest_token", "characters", "length of the longest token"),
    _share("alphabetic_words", "words with at least one letter, of all words (Gopher)"),
    _share("upper_words", "tokens with two or more letters, all of them upper case (RedPajama v2)"),
    _share("unspaced_words", "words that are single characters of a script without spaces"),
    _share("unique_words", "different words, of all words (RedPajama v2)"),
    _figure("word_entropy", "nats", "entropy of the frequencies of the words (RedPajama v2)"),
    _count("stop_words_distinct", "words", "different stop words that occur, exactly as written (datatrove)"),
    _count("stop_words_total", "words", "occurrences of stop words (DCLM)"),
    _figure("letters_per_word", "letters", "letters of the text, for each of its words"),
    _figure("letters_per_token", "letters", "letters for each token of a byte-pair encoding, imitated: a run of letters"
            " counts for one token every six or part of them, of digits every three, of one other mark every four; a"
            " run of line feeds for one, of other ASCII white space for one where it is longer than one (RedPajama v1,"
            " code)"),
)  # fmt: skip
_CHARACTERS = (
    _share("letter_share", "letters, of all characters"),
    _share("upper_share", "upper-case letters, of all characters"),
    _share("digit_share", "decimal digits, of all characters"),
    _share("alphanumeric_share", "letters and numbers (str.isalnum), of all characters (RedPajama v1, code)"),
    _share("punctuation_share", "characters of Unicode's categories P, of all characters"),
    _share("symbol_share", "characters of Unicode's categories S, of all characters"),
    _share("whitespace_share", "white space, of all characters"),
    _share("parentheses_share", "( ) [ ] { } < >, of all characters"),
    _share("non_ascii_share", "characters beyond ASCII, of all characters"),
    _count("control_characters", "characters", "control characters other than white space, and U+FFFD"),
    _count("longest_run", "characters", "longest run of one character other than white space"),
)
_SYMBOLS = (
    _figure("hash_ratio", "for each word", "# for each word (Gopher)"),
    _figure("ellipsis_ratio", "for each word", "... and … for each word (Gopher)"),
    _count("curly_brackets", "occurrences", "{ and } in the text (RedPajama v2; C4 drops a page with one {)"),
    _count("lorem_ipsum", "occurrences", "'lorem ipsum', in any case"),
    _count(
        "urls",
        "occurrences",
        "http://, https:// and www. at the beginning of a token or after a bracket or quote",
    ),
    _share("url_share", "characters of tokens with a web address, of all characters"),
    _count("xml_header", "0 or 1", "whether the first 100 characters have '<?xml version='"),
)
_LINES = (
    _share("bullet_lines", "lines that begin with • or -, of all lines (Gopher)"),
    _share("ellipsis_lines", "lines that end in ... or …, of all lines (Gopher)"),
    _share(
        "terminal_punctuation_lines", "filled lines that end in a sentence's end mark of any script (FineWeb)"
    ),
    _share("short_lines", "filled lines of at most 30 characters (FineWeb)"),
    _figure("newlines_per_word", "for each word", "line feeds for each word (FineWeb)"),
    _count("long_lines", "lines", "stretches between line feeds of 200 characters or more (mC4 asks for 3)"),
    _count("longest_line", "characters", "longest stretch between line feeds (RedPajama v1, code)"),
    _figure("mean_line", "characters", "mean length of a stretch between line feeds (RedPajama v1, code)"),
    _share("upper_lines", "filled lines whose letters are more than half upper case (RefinedWeb)"),
    _share("numeric_lines", "filled lines with digits and without letters (RefinedWeb)"),
    _share("one_word_lines", "filled lines of a single token (RefinedWeb)"),
    _count("javascript_lines", "lines", "lines with 'javascript', in any case (C4)"),
    _count(
        "policy_lines", "lines", "lines with C4's words about terms of use, privacy or cookies, in any case"
    ),
)
_C4 = (
    _count("c4_lines", "lines", "lines that C4's line rules keep"),
    _count(
        "c4_sentences", "sentences", "sentences in those lines, marks of citations taken out (C4 asks for 5)"
    ),
    _count(
        "c4_curly_lines",
        "lines",
        "lines at which C4 drops the page for a {: those that its earlier rules keep",
    ),
    _count("c4_lorem_lines", "lines", "lines at which C4 drops the page for 'lorem ipsum', likewise"),
    _count("c4_open_lines", "lines", "as c4_lines, without the rule about end marks (FineWeb's use of C4)"),
    _count("c4_open_sentences", "sentences", "as c4_sentences, without the rule about end marks"),
    _count("c4_open_curly_lines", "lines", "as c4_curly_lines, without the rule about end marks"),
    _count("c4_open_lorem_lines", "lines", "as c4_lorem_lines, without the rule about end marks"),
)
_REPETITION = (
    _share("duplicate_lines", "lines (cut at runs of line feeds) that stood in the text before (Gopher)"),
    _share("duplicate_line_characters", "characters of such lines, of all characters (Gopher)"),
    _share("duplicate_paragraphs", "paragraphs that stood in the text before (Gopher)"),
    _share("duplicate_paragraph_characters", "characters of such paragraphs, of all characters (Gopher)"),
    _share("repeated_line_characters", "characters of filled lines that stood in the text before, of all but line"
           " feeds (FineWeb)"),
    *(
        _figure(f"top_{n}gram", "ratio", f"characters, inner spaces counted, of the most frequent {n}-gram of words, of"
                " all characters; of equally frequent ones the first counts, also where none comes twice; more than 1"
                " where its occurrences overlap (Gopher)")
        for n in (2, 3, 4)
    ),
    *(
        _share(f"duplicate_{n}grams", f"characters in {n}-grams of words that came before, of all characters; behind a"
               " repeated one the search goes on, so that none counts twice (Gopher)")
        for n in range(5, 11)
    ),
)  # fmt: skip

FACTS: tuple[FactColumn, ...] = (*_SIZE, *_WORDS, *_CHARACTERS, *_SYMBOLS, *_LINES, *_C4, *_REPETITION)
"""Every fact, in the ledger's order."""
NAMES: tuple[str, ...] = tuple(fact.name for fact in FACTS)
