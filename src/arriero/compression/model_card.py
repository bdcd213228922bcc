"""README.md of an exported model: what it is, what it was made from, under which licences."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.artifacts import Artifact, LicenseRecord
from arriero.artifacts.artifact import merge_licenses
from arriero.artifacts.lineage import lineage, raw_sources
from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import get_family

_PARTS = {
    "embedding": "token embedding",
    "positions": "position embedding",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "norm": "norms",
    "head": "head",
}


def model_card(
    source: Artifact, config: DecoderConfig, counts: dict[str, int], stored: str, weight_bytes: int
) -> str:
    """Markdown with a front matter that model hubs read.

    Args:
        source: the artifact that was exported; its lineage gives history and licences.
        counts: parameters by part.
        stored: how the weights are stored (float32, int4 ...).
    """
    sections = [
        _front_matter(_library(stored, config), config.family),
        f"# {_plain(source.name)}",
        f"A causal language model of the family {config.family}, made and exported with Arriero.",
        _shape_section(config, counts, stored, weight_bytes),
        _history_section(source),
        _licence_section(training_licenses(source)),
        _use_section(_library(stored, config), stored),
    ]
    return "\n\n".join(sections) + "\n"


def training_licenses(source: Artifact) -> list[LicenseRecord]:
    """Licences of everything in the lineage, each once."""
    steps = [step.artifact for step in lineage(source) if step.artifact is not None]
    return merge_licenses(*(artifact.manifest.licenses for artifact in steps))


def _library(stored: str, config: DecoderConfig) -> str:
    """What reads the folder, by the names that model hubs use."""
    if stored.startswith("gguf"):
        return "gguf"
    return "transformers" if get_family(config.family).shared else "arriero"


def _front_matter(library: str, family: str) -> str:
    return f"---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- arriero\n- {family}\n---"


def _shape_section(config: DecoderConfig, counts: dict[str, int], stored: str, weight_bytes: int) -> str:
    rows = [
        ("parameters", f"{sum(counts.values()):,}"),
        *((f"of which {_PARTS[part]}", f"{count:,}") for part, count in counts.items() if count),
        ("layers", f"{config.n_layers}"),
        ("width", f"{config.d_model}"),
        (
            "query heads / key-value heads",
            f"{config.n_heads} / {config.n_kv_heads} of width {config.head_dim}",
        ),
        ("feed-forward width", f"{config.d_ff}"),
        ("vocabulary", f"{config.vocab_size:,}"),
        ("context", f"{config.context_length:,} tokens"),
        ("positions", config.positions),
        *([("rotary base", f"{config.rope_theta:g}")] if config.positions == "rotary" else []),
        ("embedding and head", "one table" if config.tie_embeddings else "separate tables"),
        ("weights stored as", f"{stored}, {weight_bytes:,} bytes"),
    ]
    return "## Shape\n\n" + _table(("", ""), rows)


def _history_section(source: Artifact) -> str:
    lines = []
    for step in lineage(source):
        gone = "" if step.artifact is not None else " (no longer on disk when this was written)"
        lines.append(f"{'  ' * step.depth}- {_plain(step.name)}: {_plain(step.kind)} `{step.key[:12]}`{gone}")
    text = (
        "## How it was made\n\nEach step with those that it took its inputs from below it.\n\n"
        + "\n".join(lines)
    )
    rows = [
        (record.path.rsplit("/", 1)[-1], f"{record.bytes:,}", record.sha256[:12])
        for record in raw_sources(source)
    ]
    if rows:
        text += "\n\nRaw files:\n\n" + _table(("file", "bytes", "SHA-256 begins"), rows)
    return text


def _licence_section(records: list[LicenseRecord]) -> str:
    if not records:
        return "## Licences of the training data\n\nNone is on record: the lineage names no raw text."
    rows = [(record.name, record.of, record.url or "") for record in records]
    return "## Licences of the training data\n\n" + _table(("licence", "covers", "address"), rows)


def _use_section(library: str, stored: str) -> str:
    if library == "gguf":
        return "## Use\n\n```sh\nllama-cli -m model.gguf\n```"
    if library == "arriero":
        return (
            "## Use\n\n```sh\narriero chat .\n```\n\n"
            "transformers does not have this architecture, so only Arriero reads this folder."
        )
    text = (
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\ntokenizer = AutoTokenizer.from_pretrained(".")\n```'
    )
    if stored.startswith("int"):
        text += "\n\nThe weights are in the compressed-tensors format; transformers needs that package to load them."
    return text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows)])


def _plain(text: str) -> str:
    """Text from outside, safe in a table cell and a list line."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
