"""The two formats that `export` writes: a Hugging Face folder and a GGUF file. Each says its size, writes, and checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.stage import ModelSpec

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder
    from arriero.models.decoder_config import DecoderConfig
    from arriero.models.gguf import BlockType, GgufFile

GGUF_FILE = "model.gguf"
EXACT = 1e-5
"""Largest change of a logit, relative to the largest one, where the way of storing the weights does not change."""
TOLERANCE = {"float32": EXACT, "bfloat16": 0.1, "float16": 0.02}
"""The same where weights are stored in this dtype."""
Advance = Callable[[int], None]


class Format(Protocol):
    """How a model is handed on."""

    def stored(self, source: ModelSpec) -> str:
        """How the weights will be stored: ``ModelSpec.format``."""

    def weight_bytes(self, source: ModelSpec, config: DecoderConfig) -> int:
        """Exact bytes of the weights that :meth:`write` will make."""

    def write(self, source: Artifact, folder: Path, advance: Advance) -> Decoder:
        """Write the weights into ``folder``; returns the model. ``advance`` is told the bytes as they are written."""

    def written_bytes(self, folder: Path) -> int:
        """Bytes of the weights in ``folder``, to hold against :meth:`weight_bytes`."""

    def readable(self, folder: Path) -> Path:
        """What ``load_model`` reads back."""

    def allowed_change(self, stored: str, before: str) -> float | None:
        """Largest change of a logit, relative to the largest, that the format explains; None where weights are
        compared instead."""

    def check_weights(self, model: Decoder, folder: Path) -> None:
        """Compare the weights in ``folder`` with the model's.

        Raises:
            ArrieroError: one differs by more than the way of storing explains.
        """


class HuggingFaceFolder:
    """A folder with safetensors. ``dtype`` None leaves everything as it is stored, quantised layers too."""

    def __init__(self, dtype: str | None) -> None:
        self.dtype = dtype

    def stored(self, source: ModelSpec) -> str:
        return self.dtype or source.format

    def weight_bytes(self, source: ModelSpec, config: DecoderConfig) -> int:
        from arriero.models.checkpoint import predicted_file_bytes

        stored = self.stored(source)
        return source.weight_bytes if stored == source.format else predicted_file_bytes(config, stored)

    def write(self, source: Artifact, folder: Path, advance: Advance) -> Decoder:
        from arriero.models.checkpoint import load_decoder, read_special_ids, save_model

        if self.dtype is None:
            model = load_decoder(source.path)
            dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
        else:
            model, dtype = _plain_model(source.path), self.dtype
        save_model(model, folder, dtype, **read_special_ids(source.path))
        advance(self.written_bytes(folder))
        return model

    def written_bytes(self, folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("model*.safetensors"))

    def readable(self, folder: Path) -> Path:
        return folder

    def allowed_change(self, stored: str, before: str) -> float | None:
        return EXACT if stored == before else TOLERANCE[stored]

    def check_weights(self, model: Decoder, folder: Path) -> None:
        """Nothing more than the logits: every weight has its part in them."""


class GgufExport:
    """A GGUF file with the tokenizer in it, for llama.cpp."""

    def __init__(self, kind: str) -> None:
        from arriero.models.gguf import written_type

        self.kind: BlockType = written_type(kind)

    def stored(self, source: ModelSpec) -> str:
        return f"gguf-{self.kind.name.lower()}"

    def weight_bytes(self, source: ModelSpec, config: DecoderConfig) -> int:
        """The tensors with their padding; the header depends on the tokenizer, which a plan does not have."""
        import torch

        from arriero.models.checkpoint import build_model

        with torch.device("meta"):
            return _gguf_file(build_model(config), self.kind, None).weight_bytes

    def write(self, source: Artifact, folder: Path, advance: Advance) -> Decoder:
        model = _plain_model(source.path)
        _gguf_file(model, self.kind, source).write(folder / GGUF_FILE, advance)
        return model

    def written_bytes(self, folder: Path) -> int:
        from arriero.models.gguf.container import Container

        path = folder / GGUF_FILE
        file = Container(path)
        file.close()
        return path.stat().st_size - min(tensor.start for tensor in file.tensors.values())

    def readable(self, folder: Path) -> Path:
        return folder / GGUF_FILE

    def allowed_change(self, stored: str, before: str) -> float | None:
        dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(self.kind.name)
        return None if dtype is None else TOLERANCE[dtype]

    def check_weights(self, model: Decoder, folder: Path) -> None:
        import torch

        from arriero.models.checkpoint import tensor_entries
        from arriero.models.gguf import open_gguf

        with open_gguf(folder / GGUF_FILE) as written:
            for entry in tensor_entries(model, "float32"):
                wanted, found = entry.read().float(), written.read(entry.name).float()
                largest = wanted.abs().amax()
                # half a float16's last place of the scale comes on top of the step; the least scale is 2^-24
                allowed = largest * (_STEP[written.storage(entry.name)] * 1.01 + 2e-3) + 1e-5
                if not torch.isfinite(found).all() or (found - wanted).abs().amax() > allowed:
                    raise ArrieroError(
                        f"the exported {GGUF_FILE} gives other weights than its source in {entry.name}"
                    )


_STEP = {"F32": 0.0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 254, "Q5_1": 1 / 31, "Q5_0": 1 / 16, "Q4_1": 1 / 15, "Q4_0": 1 / 8}  # fmt: skip
"""Largest rounding error of a value relative to the largest one of its block: half a step, or a whole one at the
end that the symmetric types cut off."""


def _plain_model(path: Path) -> Decoder:
    """The model in float32, quantised layers made plain."""
    import torch

    from arriero.models.checkpoint import load_decoder
    from arriero.models.layers.quantized import use_plain_layers

    model = load_decoder(path, dtype="float32")
    use_plain_layers(model, torch.float32)
    return model


def _gguf_file(model: Decoder, kind: BlockType, source: Artifact | None) -> GgufFile:
    """The file of this model; with the tokenizer and the name of ``source``, if it is given."""
    from arriero.models.checkpoint import read_special_ids, tensor_entries
    from arriero.models.gguf import GgufFile
    from arriero.models.hf_config import config_to_hf
    from arriero.tokenization.to_gguf import gguf_tokenizer_metadata, with_special_ids
    from arriero.tokenization.tokenizer import TOKENIZER_FILE, Tokenizer

    values, tokenizer, name = config_to_hf(model.config, "float32", {}), None, ""
    if source is not None:
        name = source.name
        if (source.path / TOKENIZER_FILE).is_file():
            found = gguf_tokenizer_metadata(Tokenizer.load(source.path), model.config.vocab_size)
            tokenizer = with_special_ids(found, read_special_ids(source.path))
    entries = tensor_entries(model, "float32")
    return GgufFile(
        values, entries, kind, name=name, tokenizer=tokenizer, where=name or "the model to export"
    )
