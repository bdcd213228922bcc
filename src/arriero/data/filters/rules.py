"""Settings of the heuristic rules: named presets with the published thresholds, and a field for each threshold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Preset = Literal["c4", "fineweb-c4", "gopher", "fineweb", "ccnet", "refinedweb", "redpajama-code", "none"]
Default = Literal["preset"]
"""The threshold is what the presets say; without a preset that has it, the rule is off."""
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None | Default
Share = Annotated[float, Field(ge=0, le=1)] | None | Default


def _about(description: str) -> Any:
    return Field(default="preset", description=description)


class Rules(BaseModel):
    """Rules that a document's facts must keep. ``presets`` gives the published thresholds; a field that is given
    replaces that threshold in all presets (and adds the rule where no preset has it), null switches the rule off."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    presets: list[Preset] = Field(
        default=["gopher"],
        description="whose rules a document must keep, tried in this order: c4 (Raffel et al. 2020), fineweb-c4 (C4"
        " without its rule about line ends, as FineWeb uses it), gopher (Rae et al. 2021), fineweb (Penedo et al. 2024), ccnet (Wenzek et al. 2020), refinedweb (Penedo et al. 2023),"
        " redpajama-code (RedPajama v1's GitHub part), none",
    )
    words: Literal["peel", "space"] = Field(
        default="peel",
        description="what a word is: peel (punctuation at a word's edges is a word of its own, as in datatrove, whose"
        " thresholds the presets are) or space (what lies between white space, as in Gopher's paper)",
    )
    stop_words: Literal["by_language", "english"] = Field(
        default="by_language",
        description="which stop words count: those of the document's language where it is known and they are (en, de, fr,"
        " es, it, pt, nl, zh), else the English ones; english: always those, as the papers have it",
    )
    # ------------------------------------------------------------------------------------------------ size
    min_characters: Limit = _about("fewest characters of a document")
    max_characters: Limit = _about("most characters of a document")
    min_words: Limit = _about("fewest words of a document that are not just punctuation")
    max_words: Limit = _about("most words of a document that are not just punctuation")
    min_sentences: Limit = _about("fewest sentences of a document, counted line by line")
    min_long_lines: Limit = _about("fewest lines of at least 200 characters (mC4 asks for 3)")
    min_lines: Limit = _about("fewest lines that are not blank")
    max_lines: Limit = _about("most lines that are not blank")
    # ------------------------------------------------------------------------------------------------ words
    min_mean_word_length: Limit = _about("least mean length of a word, in characters")
    max_mean_word_length: Limit = _about("greatest mean length of a word, in characters")
    min_alphabetic_share: Share = _about("least share of words that hold a letter")
    min_stop_words: Limit = _about(
        "fewest different ones of the language's stop words (the, be, to, of, ...)"
    )
    min_stop_word_count: Limit = _about("fewest occurrences of stop words, as DCLM counts them")
    min_unique_words: Share = _about("least share of words that are different")
    min_word_entropy: Limit = _about("least entropy of the words' frequencies, in nats")
    max_longest_word: Limit = _about("longest stretch without white space, in characters")
    # ------------------------------------------------------------------------------------------------ symbols
    max_symbol_ratio: Limit = _about("most # or ellipses (whichever are more) a word")
    max_longest_run: Limit = _about("longest run of one character, such as -----, in characters")
    max_bullet_lines: Share = _about("most lines that begin with a bullet, as a share")
    max_ellipsis_lines: Share = _about("most lines that end in an ellipsis, as a share")
    max_curly_brackets: Limit = _about("most curly brackets; in the c4 presets: lines with a {")
    max_lorem_ipsum: Limit = _about("most occurrences of 'lorem ipsum'")
    max_upper_share: Share = _about("most characters that are upper-case letters, as a share")
    max_digit_share: Share = _about("most characters that are digits, as a share")
    max_punctuation_share: Share = _about("most characters that are punctuation, as a share")
    max_whitespace_share: Share = _about("most characters that are white space, as a share")
    min_alphanumeric_share: Share = _about("least share of characters that are letters or digits")
    min_letters_per_token: Limit = _about(
        "fewest letters for each token of the byte-pair encoding that is imitated"
    )
    max_parentheses_share: Share = _about("most characters that are parentheses, as a share")
    max_url_share: Share = _about("most characters in web addresses, as a share")
    # ------------------------------------------------------------------------------------------------ lines
    min_terminal_punctuation_lines: Share = _about("least share of lines that end a sentence")
    max_short_lines: Share = _about("most lines of at most 30 characters, as a share")
    max_newlines_per_word: Limit = _about("most line feeds a word")
    max_line_length: Limit = _about("longest line, in characters")
    max_mean_line_length: Limit = _about("greatest mean length of a line, in characters")
    max_words_cut: Share = _about("most words that the line rules may have cut, as a share")
    # ------------------------------------------------------------------------------------------------ repetition
    max_duplicate_lines: Share = _about("most lines that stood in the document before, as a share")
    max_duplicate_paragraphs: Share = _about("most paragraphs that stood in it before, as a share")
    max_duplicate_line_characters: Share = _about("most characters in such lines, as a share")
    max_duplicate_paragraph_characters: Share = _about("most characters in such paragraphs, as a share")
    max_repeated_line_characters: Share = _about(
        "most characters in lines that stood in it before, as a share of the text without line feeds (FineWeb's)"
    )
    max_top_2gram: Share = _about("most characters in the most frequent 2-gram of words, as a share")
    max_top_3gram: Share = _about("most characters in the most frequent 3-gram of words, as a share")
    max_top_4gram: Share = _about("most characters in the most frequent 4-gram of words, as a share")
    max_duplicate_5grams: Share = _about("most characters in 5-grams that stood in it before, as a share")
    max_duplicate_6grams: Share = _about("most characters in 6-grams that stood in it before, as a share")
    max_duplicate_7grams: Share = _about("most characters in 7-grams that stood in it before, as a share")
    max_duplicate_8grams: Share = _about("most characters in 8-grams that stood in it before, as a share")
    max_duplicate_9grams: Share = _about("most characters in 9-grams that stood in it before, as a share")
    max_duplicate_10grams: Share = _about("most characters in 10-grams that stood in it before, as a share")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"should not be {str(value).lower()}")
        return value

    @field_validator("presets")
    @classmethod
    def _none_stands_alone(cls, presets: list[Preset]) -> list[Preset]:
        if "none" in presets and len(presets) > 1:
            raise ValueError("'none' goes with no other preset")
        if len(set(presets)) < len(presets):
            raise ValueError("a preset is named twice")
        return presets
