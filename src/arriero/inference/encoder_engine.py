"""The engine for models that give vectors, classes and scores rather than text.

It has the shape of :class:`arriero.inference.engine.Engine`: a plain object that is stepped by whoever owns it, from
one thread. Requests of any number of texts are cut into batches of a token budget; whatever company a text is computed
in, its result is the same up to rounding.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.inference.encoder_batches import Tokens, cut, packs, run
from arriero.inference.encoder_queue import Job, next_batch
from arriero.inference.encoder_request import (
    Classification,
    EncoderEvent,
    EncoderInput,
    EncoderRequest,
    EncoderTask,
)
from arriero.inference.encoder_texts import Text, TextReader
from arriero.inference.request import QueueFullError, RequestError
from arriero.models.decoder import Decoder
from arriero.models.encoder import Encoder
from arriero.models.sentence_embedding import POOLINGS, probabilities, read_pooling
from arriero.tokenization.tokenizer import Tokenizer

TOKEN_BUDGET = 4096
"""Tokens of a batch: enough for the products to be fast, few enough that a step is short."""


class EncoderEngine:
    """Embeddings, classes and scores of texts.

    Embeddings come from any encoder and from decoders; classes and scores need an encoder with a head for sequence
    classification, scores one with a single output (a cross-encoder).

    Args:
        pooling: mean, cls, max or last: how the vectors of the tokens become one of the text.
        normalise: vectors have length 1 unless a request says otherwise.
        longest: most tokens of a text, special ones included; never more than the model has positions for.
        sigmoid: a cross-encoder's score goes through a sigmoid.
        token_budget: tokens of a batch; a text that is longer has one of its own.
        max_waiting: most requests that wait before :meth:`submit` refuses.

    Attributes:
        last_step: tokens that the last step read of each request, by its id: what the step's cost is shared by.
    """

    def __init__(
        self,
        model: Encoder | Decoder,
        tokenizer: Tokenizer,
        *,
        pooling: str = "mean",
        normalise: bool = True,
        longest: int | None = None,
        sigmoid: bool = True,
        token_budget: int = TOKEN_BUDGET,
        max_waiting: int = 64,
    ) -> None:
        if pooling not in POOLINGS:
            raise ArrieroError(f"unknown pooling '{pooling}'{did_you_mean(pooling, POOLINGS)}")
        if token_budget < 1:
            raise ArrieroError(f"token_budget must be at least 1, not {token_budget}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.pooling, self.normalise, self.sigmoid = pooling, normalise, sigmoid
        self.token_budget, self.max_waiting = token_budget, max_waiting
        self.context_length = _longest(model, longest)
        self.steps = 0
        self.last_step: dict[int, int] = {}
        encoder = isinstance(model, Encoder)
        segments = isinstance(model, Encoder) and model.config.n_segments > 1
        self._reader = TextReader(tokenizer, self.context_length, encoder, segments)
        self._packs = packs(model)
        self._jobs: list[Job] = []
        self._numbers = itertools.count(1)

    @classmethod
    def load(cls, folder: Path, *, pooling: str | None = None, **options: Any) -> EncoderEngine:
        """An engine for a model folder (encoder or decoder), with the pooling that a sentence-transformers folder says.

        Raises:
            ArrieroError: there is no model, or one that gives no such vectors.
        """
        from arriero.models.checkpoint import load_model
        from arriero.tokenization.load import load_tokenizer

        model = load_model(folder)
        if not isinstance(model, (Encoder, Decoder)):
            raise ArrieroError(
                f"{folder} holds a {model.config.family} model; embeddings need an encoder or a decoder"
            )
        found, normalise, longest = read_pooling(folder)
        settings = {"normalise": normalise, "longest": longest, "sigmoid": _wants_sigmoid(folder), **options}
        return cls(model, load_tokenizer(folder), pooling=pooling or found, **settings)

    # ------------------------------------------------------------ what it can do

    @property
    def tasks(self) -> tuple[EncoderTask, ...]:
        """What may be asked of this model."""
        if isinstance(self.model, Decoder) or self.model.config.task != "sequence_classification":
            return ("embed",)
        return ("embed", "classify", "rerank") if self.model.config.n_labels == 1 else ("embed", "classify")

    @property
    def dimensions(self) -> int:
        """Numbers of a whole vector."""
        return self.model.config.d_model

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, LABEL_0 ... where the model has none; empty without a classifier."""
        if "classify" not in self.tasks:
            return ()
        config: Any = self.model.config
        return config.label_names or tuple(f"LABEL_{i}" for i in range(config.n_labels))

    def read(self, texts: Sequence[Text], truncate: bool = False) -> list[EncoderInput]:
        """Inputs of texts (or of lists of ids); see :class:`~arriero.inference.encoder_texts.TextReader`.

        Raises:
            RequestError: a text is empty, too long and ``truncate`` is not asked for, or no Unicode text.
        """
        return self._reader.read(texts, truncate)

    def read_pairs(self, query: str, documents: Sequence[str], truncate: bool = False) -> list[EncoderInput]:
        """Inputs of a query with each document; see :meth:`read`."""
        return self._reader.read_pairs([(query, document) for document in documents], truncate)

    # ------------------------------------------------------------ requests in and out

    @property
    def running(self) -> int:
        """Requests of which a part is done."""
        return sum(job.begun for job in self._jobs)

    @property
    def waiting(self) -> int:
        """Requests of which nothing is done."""
        return len(self._jobs) - self.running

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._jobs

    def check(self, request: EncoderRequest) -> None:
        """See that the request can be served.

        Raises:
            RequestError: it never can.
        """
        if request.task not in self.tasks:
            config = self.model.config
            what = getattr(config, "task", "a decoder")
            raise RequestError(
                f"this model ({config.family}, {what}) cannot {request.task}; it can: {', '.join(self.tasks)}",
                param="model",
            )
        if request.dimensions is not None and not 1 <= request.dimensions <= self.dimensions:
            raise RequestError(
                f"dimensions {request.dimensions} is not between 1 and the model's {self.dimensions}",
                param="dimensions",
            )
        vocabulary = self.model.config.vocab_size
        for index, one in enumerate(request.inputs):
            length = len(one.ids)
            if not length or (self.context_length is not None and length > self.context_length):
                raise RequestError(
                    f"input {index} has {length:,} tokens; it should have 1 to {self.context_length:,}",
                    param="input",
                )
            if min(one.ids) < 0 or max(one.ids) >= vocabulary:
                raise RequestError(
                    f"input {index} has an id outside the vocabulary of {vocabulary:,}", param="input"
                )

    def submit(self, request: EncoderRequest) -> int:
        """Queue a request; gives its id, which its event carries.

        Raises:
            RequestError: it can never be served.
            QueueFullError: too many are waiting.
        """
        self.check(request)
        if self.waiting >= self.max_waiting:
            raise QueueFullError(
                f"{self.waiting} requests are waiting already, the most allowed: try again later"
            )
        job = Job(next(self._numbers), request)
        self._jobs.append(job)
        return job.id

    def abort(self, request_id: int) -> EncoderEvent | None:
        """End a request now. None when it is not there (any more)."""
        for job in self._jobs:
            if job.id == request_id:
                self._jobs.remove(job)
                return EncoderEvent(request_id, None, "abort")
        return None

    def abort_all(self) -> list[EncoderEvent]:
        """End every request."""
        return [event for job in list(self._jobs) if (event := self.abort(job.id)) is not None]

    # ------------------------------------------------------------ the step

    def step(self) -> list[EncoderEvent]:
        """Compute one batch; gives the events of the requests that it ends.

        Raises:
            ArrieroError: the model gives no numbers (NaN); the requests are still there to abort.
        """
        self.steps += 1
        self.last_step = {}
        if any(job.left for job in self._jobs):
            self._compute(
                next_batch([job for job in self._jobs if job.left], self.token_budget, not self._packs)
            )
        done = [j for j in self._jobs if not j.left and all(value is not None for value in j.values)]
        self._jobs = [job for job in self._jobs if job not in done]
        return [EncoderEvent(job.id, [v for v in job.values if v is not None], "stop") for job in done]

    @torch.inference_mode()
    def _compute(self, batch: list[tuple[Job, int]]) -> None:
        for job, number in batch:
            self.last_step[job.id] = self.last_step.get(job.id, 0) + job.length(number)
        tokens = run(self.model, [job.request.inputs[number] for job, number in batch])
        values = self._values(tokens, batch[0][0].request.task).cpu().numpy()
        if not np.isfinite(values).all():
            raise ArrieroError(
                "the model's output is not a number (NaN): its weights are damaged or training diverged"
            )
        for (job, number), row in zip(batch, values, strict=True):
            job.values[number] = self._finished(row, job.request)

    def _values(self, tokens: Tokens, task: EncoderTask) -> Tensor:
        """float32 [B, whatever the task gives]."""
        if task == "embed" or isinstance(self.model, Decoder):
            return tokens.pooled(self.pooling)
        config = self.model.config
        logits = self.model.output(tokens.first()).float()
        if task == "rerank":
            return logits.sigmoid() if self.sigmoid else logits
        return probabilities(logits, config.problem, config.n_labels, config.task)

    def _finished(self, row: np.ndarray, request: EncoderRequest) -> np.ndarray:
        if request.task != "embed":
            return row.copy()
        return cut(
            row, request.dimensions, self.normalise if request.normalise is None else request.normalise
        )

    # ------------------------------------------------------------ whole answers

    def run(self, requests: Iterable[EncoderRequest]) -> list[list[np.ndarray]]:
        """The values of every request, in the order given.

        Raises:
            RequestError: one of them can never be served; nothing has run then.
        """
        requests = list(requests)
        for request in requests:
            self.check(request)
        jobs = [Job(next(self._numbers), request) for request in requests]
        self._jobs += jobs
        place = {job.id: index for index, job in enumerate(jobs)}
        results: list[list[np.ndarray]] = [[] for _ in requests]
        try:
            while place:
                for event in self.step():
                    if event.request_id in place and event.values is not None:
                        results[place.pop(event.request_id)] = event.values
        finally:
            for request_id in place:
                self.abort(request_id)
        return results

    def embed(
        self,
        texts: Sequence[Text],
        *,
        dimensions: int | None = None,
        normalise: bool | None = None,
        truncate: bool = False,
    ) -> tuple[list[np.ndarray], list[int]]:
        """Vectors of texts, float32 [dimensions] each, and how many tokens each text has.

        Args:
            dimensions: keep the first so many numbers, for models trained for it; None: all.
            normalise: to length 1, after that; None: as the model's folder says.
            truncate: cut what is too long.

        Raises:
            RequestError: a text or ``dimensions`` does not fit the model.
        """
        inputs = self.read(texts, truncate)
        (values,) = self.run([EncoderRequest("embed", tuple(inputs), dimensions, normalise)])
        return values, [len(i.ids) for i in inputs]

    def classify(self, texts: Sequence[Text], *, truncate: bool = False) -> list[Classification]:
        """Label and probabilities of each text.

        Raises:
            RequestError: the model has no classifier, or a text does not fit it.
        """
        inputs = self.read(texts, truncate)
        (values,) = self.run([EncoderRequest("classify", tuple(inputs))])
        return [self.classification(row, len(i.ids)) for i, row in zip(inputs, values, strict=True)]

    def classification(self, values: np.ndarray, tokens: int) -> Classification:
        """What the values of a ``classify`` event say of one text."""
        found = {name: float(value) for name, value in zip(self.labels, values, strict=True)}
        return Classification(max(found, key=lambda name: found[name]), found, tokens)

    def rerank(
        self, query: str, documents: Sequence[str], *, truncate: bool = False
    ) -> tuple[list[float], list[int]]:
        """How well each document answers the query, in the order given, and the tokens of each pair.

        Raises:
            RequestError: the model is no cross-encoder, or a pair does not fit it.
        """
        inputs = self.read_pairs(query, documents, truncate)
        (values,) = self.run([EncoderRequest("rerank", tuple(inputs))])
        return [float(value[0]) for value in values], [len(i.ids) for i in inputs]


def _longest(model: Encoder | Decoder, wanted: int | None) -> int | None:
    limit = model.config.longest if isinstance(model, Encoder) else model.config.context_length
    return min((n for n in (limit, wanted) if n is not None), default=None)


def _wants_sigmoid(folder: Path) -> bool:
    """False where a cross-encoder's ``config.json`` says that its scores are the logits (sentence-transformers)."""
    if not (folder / "config.json").is_file():
        return True
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    newer = values.get("sentence_transformers")
    named = newer.get("activation_fn") if isinstance(newer, dict) else None
    return not str(named or values.get("sbert_ce_default_activation_function")).endswith("Identity")
