"""Compiling grammars, off the engine's thread and once for each.

llguidance, not xgrammar: it is one wheel of a few megabytes without dependencies that serves every Python from
3.9 on, whereas xgrammar's requires transformers and triton. It computes each mask from the text so far, so that
nothing has to be worked out for the whole vocabulary beforehand, bounds its own work, and refuses what it
cannot enforce.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.inference.grammar.library import available, llguidance, missing
from arriero.inference.grammar.matcher import Matcher, first_line
from arriero.inference.grammar.schema import place_of, prepare_schema, read_schema
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.inference.grammar.vocabulary import GrammarVocabulary
from arriero.inference.request import QueueFullError, RequestError

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

WHITESPACE = r"[ ]|\n[ ]{0,40}"
"""White space between the parts of JSON: a space, or a new line with its indentation. Without a bound, a model
may go on with it for ever."""


@dataclass(frozen=True)
class GrammarLimits:
    """What a grammar may cost.

    Attributes:
        text: most characters of a spec.
        seconds: a compilation that takes longer is given up.
        waiting: most compilations that wait or run at a time.
        kept: compiled grammars that are kept for the next request.
        grammar_size, lexer_fuel, lexer_states, step_fuel: bounds inside the library: symbols; work to build the
            lexer; its states (1-2 kB each); the lexer's work for one mask.
        row_items, step_items: of the parser, in one row and for one mask. The items of a schema grow with its
            properties; a grammar in Lark's notation may be ambiguous, where each costs much more, so it gets fewer.
    """

    text: int = 256 * 1024
    seconds: float = 10.0
    waiting: int = 64
    kept: int = 64
    grammar_size: int = 500_000
    lexer_fuel: int = 1_000_000
    lexer_states: int = 20_000
    step_fuel: int = 200_000
    row_items: tuple[int, int] = (3000, 1000)
    step_items: tuple[int, int] = (50_000, 20_000)


class CompiledGrammar:
    """A grammar that is ready; makes a matcher for every answer. May be shared by threads."""

    def __init__(self, inner: Any, vocabulary: GrammarVocabulary) -> None:
        self._inner = inner
        self._vocabulary = vocabulary
        self._lock = threading.Lock()

    def matcher(self) -> Matcher:
        """A matcher at the start of an answer."""
        with self._lock:
            return Matcher(self._inner.deep_copy(), self._vocabulary)


class GrammarCompiler:
    """Compiles grammars for one tokenizer, in threads of its own, and keeps the last ones.

    Args:
        end_ids: the ids that end an answer; by default those that the tokenizer names.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: Iterable[int] | None = None,
        *,
        limits: GrammarLimits = GrammarLimits(),
        threads: int = 2,
    ) -> None:
        self._tokenizer = tokenizer
        self._end_ids = frozenset(
            (tokenizer.eos_id, tokenizer.end_of_turn_id) if end_ids is None else end_ids
        )
        self.limits = limits
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grammar")
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._kept: OrderedDict[GrammarSpec, Future[CompiledGrammar]] = OrderedDict()
        self._waiting = 0
        self._words: GrammarVocabulary | None = None

    def compile(self, spec: GrammarSpec) -> Future[CompiledGrammar]:
        """The compiled grammar, as soon as it is there; at once when it is kept. Equal specs share one.

        The future cannot be cancelled, since others may wait for it. It fails with a :class:`GrammarError`
        when the grammar is wrong, can be obeyed by no text, or is over a limit; with a :class:`QueueFullError`
        when too many are being compiled.
        """
        with self._lock:
            found = self._kept.get(spec)
            if found is not None:
                self._kept.move_to_end(spec)
                return found
            future: Future[CompiledGrammar] = Future()
            future.set_running_or_notify_cancel()  # from here on, cancel() does nothing
            if self._waiting >= self.limits.waiting:
                future.set_exception(
                    QueueFullError(f"{self._waiting} grammars are being compiled already: try again later")
                )
                return future
            self._waiting += 1
            self._kept[spec] = future
            self._trim()
        self._pool.submit(self._work, spec, future)
        return future

    def check(self, spec: GrammarSpec) -> None:
        """Refuse what is known to be wrong without waiting: no library, or a compilation that has failed.

        Raises:
            RequestError: with what is wrong.
        """
        future = self._kept.get(spec)
        error: BaseException | None = None
        if future is not None and future.done():
            error = future.exception()
        elif not available():
            error = missing()
        if error is not None:
            raise RequestError(str(error), param="response_format", code="invalid_grammar")

    def matcher(self, spec: GrammarSpec) -> Matcher:
        """A matcher, once the grammar is compiled; waits for it.

        Raises:
            GrammarError: see :meth:`compile`.
        """
        return self.compile(spec).result().matcher()

    def close(self) -> None:
        """Start no further compilation."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _trim(self) -> None:
        """Forget what was asked for longest ago; what is not done yet stays."""
        done = [spec for spec, future in self._kept.items() if future.done()]
        for spec in done[: max(0, len(self._kept) - self.limits.kept)]:
            del self._kept[spec]

    def _work(self, spec: GrammarSpec, future: Future[CompiledGrammar]) -> None:
        """Fill the future: by the grammar, by what is wrong with it, or by the clock."""
        clock: threading.Timer | None = None
        try:
            words = self._vocabulary()
            seconds = self.limits.seconds
            late = GrammarError(f"the grammar takes more than {seconds:g} s to compile: make it simpler")
            clock = threading.Timer(seconds, _settle, (future, None, late))
            clock.daemon = True
            clock.start()
            _settle(future, self._compiled(spec, words), None)
        except BaseException as error:  # a future must never stay open
            _settle(future, None, error)
        finally:
            if clock is not None:
                clock.cancel()
            with self._lock:
                self._waiting -= 1

    def _vocabulary(self) -> GrammarVocabulary:
        """The vocabulary, made once and only when a first grammar is asked for."""
        with self._making:
            if self._words is None:
                self._words = GrammarVocabulary(self._tokenizer, self._end_ids)
            return self._words

    def _compiled(self, spec: GrammarSpec, words: GrammarVocabulary) -> CompiledGrammar:
        if len(spec.text) > self.limits.text:
            raise GrammarError(
                f"the grammar has {len(spec.text):,} characters, the most allowed are {self.limits.text:,}"
            )
        if spec.kind in ("json_object", "json_schema"):
            inner = self._of_schema(spec, words)
        else:
            inner, error = self._build(library_grammar(spec), words, free=spec.kind == "lark")
            if error:
                error = error.rpartition("(in regex): ")[2] if spec.kind == "regex" else error
                raise GrammarError(f"the grammar ({spec.kind}) cannot be used: {error}")
        grammar = CompiledGrammar(inner, words)
        _try_out(grammar.matcher())
        return grammar

    def _of_schema(self, spec: GrammarSpec, words: GrammarVocabulary) -> Any:
        schema = {"type": "object"} if spec.kind == "json_object" else prepare_schema(read_schema(spec.text))
        if schema is False:
            raise GrammarError("no value of finite length obeys the schema")

        def error_of(part: Any) -> str:
            return self._build(schema_grammar(part, spec.strict), words)[1]

        inner, error = self._build(schema_grammar(schema, spec.strict), words)
        if error:
            path, reason = place_of(schema, error, error_of)
            raise GrammarError(f"the schema cannot be used: {reason}", path=path or None)
        return inner

    def _build(self, grammar: str, words: GrammarVocabulary, *, free: bool = False) -> tuple[Any, str]:
        """The library's matcher, and what is wrong with the grammar ("" for nothing)."""
        limits = self.limits
        inner = llguidance().LLMatcher(
            words.library,
            grammar,
            log_level=0,
            limits=llguidance().LLParserLimits(
                max_items_in_row=limits.row_items[free],
                initial_lexer_fuel=limits.lexer_fuel,
                step_lexer_fuel=limits.step_fuel,
                step_max_items=limits.step_items[free],
                max_lexer_states=limits.lexer_states,
                max_grammar_size=limits.grammar_size,
                verbose_errors=False,
            ),
        )
        return inner, first_line(inner.get_error()) if inner.is_error() else ""


def _try_out(matcher: Matcher) -> None:
    """Take a few steps: a grammar without a first token, or too large to go on after it, is known now.

    Raises:
        GrammarError: it cannot be used.
    """
    if matcher.error is not None:
        raise GrammarError(f"no answer can obey the grammar: {matcher.error}")
    for _ in range(3):
        if matcher.finished or not (allowed := np.flatnonzero(matcher.allowed())).size:
            return
        matcher.accept(int(allowed[0]))
        if matcher.overwhelmed:
            raise GrammarError(f"the grammar cannot be used: {matcher.error}")


def options(strict: bool) -> dict[str, Any]:
    """How the library reads a schema."""
    return {"whitespace_pattern": WHITESPACE, "lenient": not strict}


def schema_grammar(schema: Any, strict: bool) -> str:
    """The library's grammar of a schema that :func:`prepare_schema` has seen."""
    wrapped = schema if isinstance(schema, dict) else {"anyOf": [schema]}
    return json.dumps({"grammars": [{"json_schema": {**wrapped, "x-guidance": options(strict)}}]})


def regex_rule(regex: str) -> str:
    """A regular expression in Lark's notation. ``\\d``, ``\\w`` and ``\\s`` mean ASCII, as in JSON Schema."""
    return f"/{llguidance().regex_to_lark(regex, 'dws')}/" if regex else '""'


def library_grammar(spec: GrammarSpec) -> str:
    """The library's grammar of a regular expression or of a grammar in Lark's notation.

    Raises:
        GrammarError: an inline schema of the grammar is refused.
    """
    if spec.kind == "regex":
        return str(llguidance().LLMatcher.grammar_from_lark(f"start: {regex_rule(spec.text)}"))
    place = -1
    while (place := spec.text.find("%json", place + 1)) >= 0:
        rest = spec.text[place + len("%json") :].lstrip()
        try:
            schema, _ = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            continue  # the library says what is wrong with it, or it is the text of a literal
        prepare_schema(
            {k: v for k, v in schema.items() if k != "x-guidance"} if isinstance(schema, dict) else schema
        )
    return str(llguidance().LLMatcher.grammar_from_lark(spec.text))


def _settle(
    future: Future[CompiledGrammar], result: CompiledGrammar | None, error: BaseException | None
) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        elif result is not None:
            future.set_result(result)
    except InvalidStateError:  # the clock was faster
        pass
