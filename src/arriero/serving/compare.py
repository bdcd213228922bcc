"""`arriero compare MODEL --with`: does another engine give the same probabilities, tokens and chat text?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from torch import Tensor

    from arriero.inference.engine import Engine

FORMAT = "arriero.agreement/1"
TEXTS = (
    "The history of mule trains: in 1849 a muleteer (Spanish: arriero) led up to 200 animals over the pass.",
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)  # 3 ≤ n < 10\n",
    "Größe, Übermut und ein naïver Café-Besitzer – „so was“ … 12.345,67 €.",
    "北京は大きい。 🦙🏔 كتاب हिन्दी  two  spaces\tand a tab\r\n\r\nend ",
)
"""Built-in texts: prose, a story, code, accents, other scripts and odd blanks."""
CONVERSATIONS: tuple[tuple[Mapping[str, str], ...], ...] = (
    ({"role": "user", "content": "Hello, who are you?"},),
    (
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Is 7 prime?\nThink first."},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": " And 8 🦙? "},
    ),
)
"""Built-in conversations for the chat template."""


@dataclass(frozen=True)
class Scores:
    """What an engine says of a sequence of token ids.

    Attributes:
        logprobs: float64 [T, vocabulary], the whole distribution after each token; or None.
        said: (position, token, log-probability) of single tokens after a position, where the whole is not told.
        best: position to the most probable token there, likewise.
    """

    logprobs: Tensor | None = None
    said: Sequence[tuple[int, int, float]] = ()
    best: Mapping[int, int] = field(default_factory=dict)


class Rival(Protocol):
    """Another engine with the same model. ``tolerance``: largest difference of a log-probability that its arithmetic
    explains."""

    name: str
    tolerance: float

    def ids(self, text: str) -> list[int] | None:
        """Tokens of a text without special ones, or None where it cannot say."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | list[int] | None:
        """A conversation as text or as ids, with the start of an answer; None where it cannot say."""

    def scores(self, ids: list[int]) -> Scores:
        """What it says of these tokens."""


@dataclass
class Differences:
    """All positions of all texts."""

    deltas: list[float] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)
    same_best: int = 0
    compared_best: int = 0

    def add(self, ours: Tensor, theirs: Scores, ids: Sequence[int]) -> dict[str, Any]:
        """Count a text in; gives its own figures.

        Args:
            ours: float64 log-probabilities [T, vocabulary] after each of ``ids``.
        """
        found = _whole(ours, theirs.logprobs, ids) if theirs.logprobs is not None else _partly(ours, theirs)
        self.deltas += found.deltas
        self.divergences += found.divergences
        self.same_best += found.same_best
        self.compared_best += found.compared_best
        return found.figures()

    def figures(self) -> dict[str, Any]:
        """Means and extremes; None where nothing was compared. Log-probabilities and divergences are in nats."""
        sizes = [abs(d) for d in self.deltas]
        return {
            "tokens": len(sizes),
            "mean_abs_dlogprob": sum(sizes) / len(sizes) if sizes else None,
            "max_abs_dlogprob": max(sizes, default=None),
            "mean_kl": sum(self.divergences) / len(self.divergences) if self.divergences else None,
            "max_kl": max(self.divergences, default=None),
            "top1_agreement": self.same_best / self.compared_best if self.compared_best else None,
        }


def _whole(ours: Tensor, theirs: Tensor, ids: Sequence[int]) -> Differences:
    import torch

    if ours.shape[0] != theirs.shape[0]:
        raise ArrieroError(
            f"distributions for {theirs.shape[0]} tokens came back, {ours.shape[0]} were asked for"
        )
    width = min(ours.shape[1], theirs.shape[1])  # an embedding may be padded beyond the tokenizer's ids
    ours, theirs = (t[:, :width].log_softmax(-1) for t in (ours, theirs))
    following = torch.tensor(ids[1:], dtype=torch.int64)[:, None]
    deltas = (ours[:-1].gather(1, following) - theirs[:-1].gather(1, following))[:, 0]
    # 0 · log 0 is 0: a forbidden token has no part in the sum
    divergence = torch.where(ours == -math.inf, torch.zeros_like(ours), ours.exp() * (ours - theirs)).sum(-1)
    same = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Differences(deltas.tolist(), divergence.tolist(), same, len(ours))


def _partly(ours: Tensor, theirs: Scores) -> Differences:
    deltas = [float(ours[position, token]) - logprob for position, token, logprob in theirs.said]
    same = sum(int(ours[position].argmax()) == token for position, token in theirs.best.items())
    return Differences(deltas, [], same, len(theirs.best))


def compare(
    engine: Engine, rival: Rival, texts: Sequence[str], *, tolerance: float | None = None, most_tokens: int = 256
) -> dict[str, Any]:  # fmt: skip
    """Compare an engine of ours with another one on texts; the report is JSON, its "agree" the verdict.

    Both score our token ids, so that a tokenizer that differs does not hide that the weights agree, nor the reverse.

    Args:
        tolerance: largest difference of a token's log-probability that counts as agreement; None takes the rival's.
        most_tokens: of a text, the beginning that is scored.

    Raises:
        ArrieroError: there is no text with two tokens, or the rival fails.
    """
    allowed = rival.tolerance if tolerance is None else tolerance
    differences, rows = Differences(), []
    for text in texts:
        ids = engine.tokenizer.encode(text)
        theirs = rival.ids(text)
        scored = _scored(engine, ids, most_tokens)
        if len(scored) < 2:
            continue
        figures = differences.add(our_logprobs(engine, scored), rival.scores(scored), scored)
        rows.append({"text": text[:60], "ids_equal": None if theirs is None else theirs == ids, **figures})
    if not rows:
        raise ArrieroError("there is nothing to compare: no text has two tokens or more")
    chats = [_chat_equal(engine, rival, messages) for messages in CONVERSATIONS]
    report = {
        "format": FORMAT,
        "runner": engine.runner.name,
        "rival": rival.name,
        "tolerance": allowed,
        **differences.figures(),
        "ids_equal": _all(row["ids_equal"] for row in rows),
        "chat_equal": _all(chats),
        "texts": rows,
    }
    complaints = _complaints(report)
    return report | {"agree": not complaints, "complaints": complaints}


def exact_engine(path: Path) -> Engine:
    """An engine that computes a model in float32, low-bit weights unpacked: what its files say, without rounding.

    Raises:
        ArrieroError: there is no model, or one that cannot be read.
    """
    import torch

    from arriero.inference.engine import Engine
    from arriero.models.checkpoint import load_decoder
    from arriero.models.layers.quantized import use_plain_layers
    from arriero.tokenization.load import load_tokenizer

    model = load_decoder(path, dtype="float32")
    use_plain_layers(model, torch.float32)
    return Engine(model, load_tokenizer(path), max_batch=1, runner="torch")


def our_logprobs(engine: Engine, ids: list[int]) -> Tensor:
    """Log-probabilities float64 [T, vocabulary] after each token, by the runner that serves answers.

    Raises:
        ArrieroError: the pool has no room for so many tokens.
    """
    import torch

    from arriero.inference.kv_pool import blocks_of
    from arriero.inference.rows import Rows

    blocks = engine.pool.allocate(blocks_of(len(ids)))
    if blocks is None:
        raise ArrieroError(f"the key-value pool has no room for {len(ids):,} tokens")
    rows = Rows()
    rows.add(ids, 0, blocks, list(range(len(ids))))
    try:
        with torch.inference_mode():
            logits = engine.runner.run(rows)
    finally:
        engine.pool.release(blocks)
    return logits.to("cpu", torch.float64).log_softmax(-1)


def _scored(engine: Engine, ids: list[int], most: int) -> list[int]:
    """The beginning of a text, behind the token that begins texts where there is one."""
    try:
        start = [engine.tokenizer.bos_id]
    except ArrieroError:
        start = []
    return (start + ids)[: min(most, engine.context_length)]


def _chat_equal(engine: Engine, rival: Rival, messages: Sequence[Mapping[str, str]]) -> bool | None:
    """Whether both render a conversation alike; None where one of them cannot."""
    try:
        ours = engine.tokenizer.chat.render(messages, add_generation_prompt=True)
    except ArrieroError:
        return None
    theirs = rival.chat(messages)
    if theirs is None:
        return None
    return theirs == (ours.text if isinstance(theirs, str) else ours.ids)


def _all(found: Any) -> bool | None:
    """Whether all that could be compared are equal; None where nothing could."""
    known = [value for value in found if value is not None]
    return all(known) if known else None


def _complaints(report: Mapping[str, Any]) -> list[str]:
    worst, allowed = report["max_abs_dlogprob"], report["tolerance"]
    lines = []
    if worst is None:
        lines.append("no log-probability could be compared")
    elif not worst <= allowed:  # not a number is no agreement either
        lines.append(
            f"a token's log-probability differs by {worst:.2g} nats, more than the {allowed:g} allowed"
        )
    if report["ids_equal"] is False:
        number = sum(row["ids_equal"] is False for row in report["texts"])
        lines.append(f"{number} of {len(report['texts'])} texts give other token ids")
    if report["chat_equal"] is False:
        lines.append("the chat template gives another text")
    return lines
