"""The stage ``extend``: more pieces for a model's tokenizer, learnt from new text, and rows for them."""

from __future__ import annotations

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    CorpusSpec,
    Input,
    Inputs,
    ModelSpec,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    open_input,
    register,
)
from arriero.tuning.adapt import check_format, load_for_training

_SCORED_SPLITS = ("validation", "train")
"""Bytes per token are counted on the first of these that the corpus has."""
_PER_TOKENIZED = 4.0
"""Passes over the text at the speed of encoding: once to learn, two to score, and the learning itself."""


class ExtendSettings(StageSettings):
    """Settings of the stage ``extend``."""

    pieces: int = Field(default=4000, ge=1, le=500_000, description="pieces to add at most")
    max_bytes: int = Field(
        default=50_000_000, ge=1, description="UTF-8 bytes of text to learn from, sampled by document"
    )
    min_frequency: int = Field(default=2, ge=1, description="a pair must occur this often to be merged")


@register
class Extend(Stage[ExtendSettings]):
    """Add pieces learnt from new text (another language, another field) to a model's BPE tokenizer.

    The ids of the old pieces stay, and the new pieces' rows in the embedding and the head begin as the mean of the
    rows that they were written with before. The model then reads the new text in fewer tokens; train it on such text.
    """

    kind = "extend"
    version = 1
    makes = "model"
    inputs = {
        "model": Input("model", "the model whose tokenizer grows, an artifact or a Hugging Face folder"),
        "corpus": Input("corpus", "the new text"),
    }
    help = "add pieces learnt from new text to a model's tokenizer"
    Settings = ExtendSettings

    def plan(self, settings: ExtendSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.training.model_folder import planned_model_spec

        model: ModelSpec = specs["model"]
        corpus: CorpusSpec = specs["corpus"]
        config = check_format(model)
        spec = planned_model_spec(
            config.model_copy(update={"vocab_size": config.vocab_size + settings.pieces})
        )
        taken = min(corpus.splits["train"].bytes, settings.max_bytes)
        rate = device.rate("tokenize.bytes_per_s")
        seconds = Quantity.unknown("s", "no rate tokenize.bytes_per_s in the profile")
        if rate:
            seconds = Quantity.band(
                0.5 + _PER_TOKENIZED * taken / rate.per_s, 0.6, "s", "modelled", "measured rate"
            )
        peak = Quantity.band(
            device.process_bytes + 2 * spec.weight_bytes + 24.0 * taken, 0.4, "B", "modelled",
            "the model before and after, and 24 B per byte of text",
        )  # fmt: skip
        notes = [f"{settings.pieces:,} pieces are the most; text with little variety gives fewer"]
        flops = Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work to speak of")
        return Plan(spec, Estimate(seconds=seconds, peak_memory=peak, flops=flops), notes)

    def run(self, settings: ExtendSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.tokenization.bpe import bytes_per_token
        from arriero.tokenization.extend import extend
        from arriero.tokenization.grow import grow_embeddings
        from arriero.tokenization.sampling import Sample, some_texts
        from arriero.training.model_folder import write_model_folder

        corpus: Artifact = inputs["corpus"]
        spec: CorpusSpec = open_input(corpus, CorpusSpec)
        if not spec.splits.get("train") or not spec.splits["train"].bytes:
            raise ArrieroError(f"{corpus.path} has no training text to learn pieces from")
        model, tokenizer = load_for_training(inputs["model"])
        sample = Sample(corpus.path, spec.splits["train"].bytes, settings.max_bytes, context)
        extended = extend(tokenizer, sample, settings.pieces, settings.min_frequency)
        added = extended.vocab_size - tokenizer.vocab_size
        if added < settings.pieces:
            context.say(f"the text gives only {added:,} new pieces of the {settings.pieces:,} wanted")
        split = next(name for name in _SCORED_SPLITS if spec.splits.get(name) and spec.splits[name].bytes)
        before, after = (
            bytes_per_token(t, some_texts(corpus.path, split, spec.splits[split].bytes))
            for t in (tokenizer, extended)
        )
        written = write_model_folder(grow_embeddings(model, tokenizer, extended), extended, context.folder)
        facts = {
            "pieces_added": added,
            "vocab_size": {"before": tokenizer.vocab_size, "after": extended.vocab_size},
            "bytes_per_token": {"split": split, "before": round(before, 4), "after": round(after, 4)},
            "documents_read": sample.documents,
            "bytes_read": sample.bytes,
            "fingerprint": extended.fingerprint,
        }
        return Outcome(written, facts)
