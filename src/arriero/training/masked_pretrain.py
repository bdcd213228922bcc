"""How ``pretrain`` plans and trains an encoder: rows, masks, and what it has learnt on held-out text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model
from arriero.models.encoder_config import EncoderConfig
from arriero.stage import Context, Inputs, Outcome, Plan, Specs, TokenSplitSpec, TokensSpec
from arriero.training.budget import run_length
from arriero.training.duration import Duration
from arriero.training.encoder_settings import fitted, objective_of, row_length
from arriero.training.facts import training_facts
from arriero.training.loop import train
from arriero.training.masked_scores import TASKS, masked_scores, pair_scores
from arriero.training.model_folder import planned_model_spec, write_model_folder
from arriero.training.objectives.masked import MaskedObjective
from arriero.training.objectives.masked_rows import (
    DocumentChunks,
    Documents,
    FullWindows,
    PlannedDocuments,
    Rows,
    Sentences,
)
from arriero.training.objectives.masking import Masking, word_starts
from arriero.training.objectives.sentence_pairs import SentencePairs
from arriero.training.plan import forecast, run_load
from arriero.training.precision import choose_arithmetic, kept_arithmetic
from arriero.training.traced import TracedFlops, Work

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer
    from arriero.training.pretrain import PretrainSettings

TRAIN, VALIDATION = "train", "validation"
HELD_SEED = 0
"""Of held-out masks and pairs: the same for all runs, so that their figures can be compared."""
_ROOM = 4096
"""Most tokens of a row of several documents. Attention goes document by document, so its length costs nothing."""
_ENDS, _CLOSES = (b".", b"!", b"?"), (b'"', b"'", b")", b"]", "\N{RIGHT DOUBLE QUOTATION MARK}".encode())


class _Parts:
    """What rows and masks need of a vocabulary."""

    def __init__(self, cls_id: int, sep_id: int, pad_id: int, sentences: Sentences, masking: Masking) -> None:
        self.cls_id, self.sep_id, self.pad_id = cls_id, sep_id, pad_id
        self.sentences, self.masking = sentences, masking

    @classmethod
    def of(cls, tokenizer: Tokenizer, settings: PretrainSettings) -> _Parts:
        """
        Raises:
            ArrieroError: the tokenizer has no token for masks or padding.
        """
        mask = tokenizer.mask_id
        if mask is None or tokenizer.pad_id == tokenizer.eos_id:
            lacks = (
                "mask token ([MASK] or <mask>)"
                if mask is None
                else "padding token of its own ([PAD] or <pad>)"
            )
            raise ArrieroError(
                f"the tokenizer has no {lacks}, which masked training needs; train one with algorithm wordpiece, or name "
                "the token in tokenizer_config.json"
            )
        texts = [tokenizer.token_bytes(id).strip() for id in range(tokenizer.vocab_size)]
        special = np.zeros(tokenizer.vocab_size, dtype=bool)
        special[
            [*tokenizer.special_ids.values(), tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, mask]
        ] = True
        plain = ~special
        sentences = Sentences(
            ends=np.array([text[-1:] in _ENDS for text in texts]) & plain,
            closes=np.array([text in _CLOSES for text in texts]) & plain,
        )
        starts = word_starts(tokenizer) if settings.whole_word else None
        masking = Masking(
            mask, np.flatnonzero(plain), special, starts, settings.mask_share, settings.mask_ngrams
        )
        return cls(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, sentences, masking)

    @classmethod
    def planned(cls, vocab_size: int, settings: PretrainSettings) -> _Parts:
        """Of a vocabulary of which only the size is known."""
        none = np.zeros(vocab_size, dtype=bool)
        masking = Masking(0, np.arange(vocab_size), none, None, settings.mask_share)
        return cls(0, 0, 0, Sentences(none, none), masking)


def _rows(documents: Documents, task: str, length: int, whole: bool, parts: _Parts) -> Rows:
    ids = parts.cls_id, parts.sep_id
    if task == "masked":
        return (
            DocumentChunks(documents, length, *ids, parts.sentences)
            if whole
            else FullWindows(documents, length, *ids)
        )
    return SentencePairs(documents, length, *ids, parts.sentences, task)  # type: ignore[arg-type]


def _objective(
    rows: Rows, config: EncoderConfig, settings: PretrainSettings, parts: _Parts, seed: int
) -> MaskedObjective:
    copies = settings.mask_copies if settings.masking == "static" else 0
    room = _ROOM if settings.packing and not settings.compile and config.takes_packed else 0
    return MaskedObjective(rows, parts.masking, parts.pad_id, seed=seed, copies=copies, room=room)


def plan_encoder(settings: PretrainSettings, specs: Specs, device: DeviceProfile) -> Plan:
    """The plan of an encoder's training; see stage.Stage.plan."""
    tokens: TokensSpec = specs["tokens"]
    config = settings.config(tokens.vocab_size)
    assert isinstance(config, EncoderConfig)
    task, length = objective_of(settings, config), row_length(settings, config)
    parts = _Parts.planned(tokens.vocab_size, settings)

    def planned(split: TokenSplitSpec | None, least: int) -> MaskedObjective | None:
        if split is None or split.tokens <= 2 * split.documents or split.documents < least:
            return None
        documents = PlannedDocuments(split.documents, split.tokens)
        return _objective(
            _rows(documents, task, length, settings.document_mask, parts), config, settings, parts, 0
        )

    objective, heldout = planned(tokens.splits[TRAIN], 1), planned(tokens.splits.get(VALIDATION), 2)
    if objective is None or not len(objective):
        raise ArrieroError(f"the split '{TRAIN}' has too little text for a row of {length} tokens")
    precision = choose_arithmetic(settings, device).precision
    load = run_load(settings, objective, heldout, seed=0, typical_steps=1)
    found = forecast(Work(config, objective, settings, precision), load, device)
    spec = planned_model_spec(config)
    timed = Duration.parse(settings.duration).timed
    samples = found.steps * settings.batch_size if timed else run_length(settings, objective)[1]
    note = (
        f"{spec.n_parameters:,} parameters, objective {task}, {'about ' if timed else ''}{found.steps:,} steps of "
        f"{settings.batch_size} rows of at most {length} tokens in {precision} ({samples / len(objective):.2f} epochs); "
        "sentence ends are not known yet, so rows are taken to be full"
    )
    return Plan(spec, found.estimate, [note])


def train_encoder(settings: PretrainSettings, inputs: Inputs, context: Context) -> Outcome:
    """The training of an encoder; see stage.Stage.run."""
    from arriero.data.shards import TokenShards
    from arriero.data.tokenize import tokenizer_folder
    from arriero.tokenization.tokenizer import Tokenizer

    artifact: Artifact = inputs["tokens"]
    tokenizer = Tokenizer.load(tokenizer_folder(artifact.path))
    parts = _Parts.of(tokenizer, settings)
    config = settings.config(tokenizer.vocab_size)
    assert isinstance(config, EncoderConfig)
    task, length = objective_of(settings, config), row_length(settings, config)
    config = fitted(config, tokenizer)
    shards = TokenShards.open(artifact.path, TRAIN)
    objective = _objective(
        _rows(shards, task, length, settings.document_mask, parts), config, settings, parts, context.seed
    )
    if not len(objective):
        raise ArrieroError(f"the split '{TRAIN}' has no text to make rows of")
    held_shards, heldout = None, None
    split = TokensSpec.model_validate(artifact.manifest.spec).splits.get(VALIDATION)
    if split is not None and split.documents > 1:
        held_shards = TokenShards.open(artifact.path, VALIDATION)
        heldout = _objective(
            _rows(held_shards, task, length, settings.document_mask, parts),
            config,
            settings,
            parts,
            HELD_SEED,
        )
    else:
        context.say("the validation split has fewer than two documents: nothing held-out is measured")
    model = build_model(config)
    model.init_weights(context.seed)
    arithmetic = kept_arithmetic(settings, context.state)
    result = train(
        model, objective, settings, context, arithmetic=arithmetic, heldout=heldout,
        flops=TracedFlops(Work(model.config, objective, settings, arithmetic.precision)),
    )  # fmt: skip
    facts: dict[str, Any] = training_facts(result, load_profile())
    facts |= {"objective": task, "rows": len(objective), "parameters": model.parameter_counts()}
    if heldout is not None and held_shards is not None and len(heldout):
        facts["masked"] = masked_scores(model, heldout, shards, settings, tokenizer.vocab_size)
        context.say(_told(facts["masked"]))
        if task in TASKS:
            facts["pairs"] = {
                name: pair_scores(
                    model, _objective(
                        _rows(held_shards, name, length, True, parts), config, settings, parts, HELD_SEED
                    ), settings,
                )
                for name in TASKS
            }  # fmt: skip
            for name, found in facts["pairs"].items():
                context.say(f"{name}: {found['accuracy']:.1%} of {found['n']:,} held-out pairs are right")
    return Outcome(write_model_folder(model, tokenizer, context.folder), facts)


def _told(found: dict[str, Any]) -> str:
    others = ", ".join(f"{name} {found[name]['accuracy']:.1%}" for name in ("unigram", "trigram"))
    bits = found["loss"] / math.log(2)
    return f"hidden tokens: {found['model']['accuracy']:.1%} are right ({bits:.2f} bits a token); {others}"
