"""Tokens a second beside llama.cpp and transformers: decode, a prompt of 512 tokens, eight streams.

    python benchmarks/decode.py [MODEL] [--threads 2] [--rounds 5] [--steps 32] [--output decode.json]

MODEL is the folder of a decoder (SmolLM2-135M, say) or a GGUF file; without it, SmolLM2's shape with random weights.
A Llama shape of 0.42 billion random parameters comes in any case (``--shapes`` chooses). All contenders have the same
weights, quantised by each one's own tools: ours round to int4 and int8 in groups of 32, llama.cpp reads Q4_0, Q8_0 and
F16 files that our export wrote. Its files keep the head as Q8_0 or F16, so ours keeps it as int8 beside int4 and int8.

The contenders take turns: in each round each computes a prompt, then ``--steps`` tokens behind 128 others, then (ours)
as many in eight streams. Printed are medians of the rounds, in tokens a second, and the ratios that matter; a ratio is
the median of the rounds' own, so that a slow minute of the machine counts for both sides. What an int8 head costs
is the mean Kullback-Leibler divergence (nats) from the model with its own head, over tokens that the model says itself.
Needs the extra ``bench`` and llama-cpp-python; who is missing is left out.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from arriero.compression.rounding import quantize_model
from arriero.inference.kv_pool import CacheShape, KVPool
from arriero.inference.native_runner import NativeRunner
from arriero.inference.rows import Rows, Runner
from arriero.inference.torch_runner import TorchRunner
from arriero.models.checkpoint import load_decoder, save_model, tensor_entries
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.gguf import GgufFile, written_type
from arriero.models.hf_config import config_to_hf
from arriero.models.layers.quantized import WeightScheme, use_plain_layers
from arriero.native import library

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {"vocab_size": 49152, "d_model": 576, "n_layers": 30, "n_heads": 9, "n_kv_heads": 3, "d_ff": 1536},
    "0.4B": {
        "vocab_size": 32000, "d_model": 2048, "n_layers": 8, "n_heads": 32, "n_kv_heads": 4, "d_ff": 5632,
        "tie_embeddings": False,
    },
}  # fmt: skip
PROMPT, BEFORE, STREAMS = 512, 128, 8
RATIOS = (
    ("decode, int4 / Q4_0", ("arriero int4", "decode"), ("llama.cpp Q4_0", "decode")),
    ("decode, int8 / Q8_0", ("arriero int8", "decode"), ("llama.cpp Q8_0", "decode")),
    ("prompt, int4 / Q4_0", ("arriero int4", "prompt"), ("llama.cpp Q4_0", "prompt")),
    ("prompt, int8 / Q8_0", ("arriero int8", "prompt"), ("llama.cpp Q8_0", "prompt")),
    ("decode, bf16 / F16", ("arriero bf16", "decode"), ("llama.cpp F16", "decode")),
    ("decode, bf16 / transformers", ("arriero bf16", "decode"), ("transformers bf16", "decode")),
    ("eight streams / one, int4", ("arriero int4", "streams"), ("arriero int4", "decode")),
    ("eight streams / one, int8", ("arriero int8", "streams"), ("arriero int8", "decode")),
    ("eight streams / one, bf16", ("arriero bf16", "streams"), ("arriero bf16", "decode")),
)
Figures = dict[str, float]


class Contender(Protocol):
    """Who generates. Each method computes and says how many tokens that were."""

    def prompt(self, ids: Sequence[int]) -> int: ...
    def start(self, ids: Sequence[int]) -> None: ...
    def decode(self, steps: int) -> int: ...


class Ours:
    """A runner over a pool with room for eight sequences."""

    def __init__(self, model: Decoder, make: Callable[[Decoder, KVPool], Runner]) -> None:
        config = model.config
        shape = CacheShape(config.n_layers, config.n_kv_heads, config.head_dim, torch.bfloat16)
        self.pool = KVPool(shape, STREAMS * (PROMPT + BEFORE))
        self.runner = make(model, self.pool)
        self.blocks = [self.pool.allocate(PROMPT // 64 + 2) or [] for _ in range(STREAMS)]
        self.stored = 0

    def prompt(self, ids: Sequence[int]) -> int:
        self._fill(self.blocks[0], ids)
        return len(ids)

    def start(self, ids: Sequence[int]) -> None:
        for blocks in self.blocks:
            self._fill(blocks, ids)
        self.stored, self.ids = len(ids), list(ids)

    def decode(self, steps: int) -> int:
        return self._steps(steps, self.blocks[:1])

    def streams(self, steps: int) -> int:
        """As ``decode``, in eight sequences at once."""
        return self._steps(steps, self.blocks)

    def _fill(self, blocks: list[int], ids: Sequence[int]) -> torch.Tensor:
        rows = Rows()
        rows.add(list(ids), 0, blocks, [len(ids) - 1])
        return self.runner.run(rows)

    def _steps(self, steps: int, sequences: list[list[int]]) -> int:
        last = self.ids[-1]
        for step in range(steps):
            rows = Rows()
            for blocks in sequences:
                rows.add([last], self.stored + step, blocks, [0])
            last = int(self.runner.run(rows)[0].argmax())
        return steps * len(sequences)


class LlamaCpp:
    """llama-cpp-python over a file that our export writes."""

    def __init__(self, model: Decoder, kind: str, folder: Path, threads: int) -> None:
        import llama_cpp

        path = folder / f"{kind}.gguf"
        values = config_to_hf(model.config, "float32", {})
        GgufFile(values, tensor_entries(model, "float32"), written_type(kind)).write(path)
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=PROMPT + BEFORE, n_batch=PROMPT, n_ubatch=PROMPT, n_threads=threads,
            n_threads_batch=threads, verbose=False,
        )  # fmt: skip

    def prompt(self, ids: Sequence[int]) -> int:
        self.start(ids)
        return len(ids)

    def start(self, ids: Sequence[int]) -> None:
        self.llama.reset()
        self.llama.eval(list(ids))

    def decode(self, steps: int) -> int:
        last = 1
        for _ in range(steps):
            self.llama.eval([last])
            logits = np.ctypeslib.as_array(self.llama._ctx.get_logits_ith(-1), (self.llama.n_vocab(),))
            last = int(logits.argmax())
        return steps


class Transformers:
    """Greedy steps with a cache, the loop that ``generate`` runs, without what it does around it."""

    def __init__(self, model: Decoder, folder: Path) -> None:
        import transformers

        save_model(model, folder, "bfloat16")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def prompt(self, ids: Sequence[int]) -> int:
        self.start(ids)
        return len(ids)

    @torch.inference_mode()
    def start(self, ids: Sequence[int]) -> None:
        found = self.model(torch.tensor([list(ids)]), use_cache=True, logits_to_keep=1)
        self.cache, self.last = found.past_key_values, found.logits[:, -1:].argmax(-1)

    @torch.inference_mode()
    def decode(self, steps: int) -> int:
        for _ in range(steps):
            found = self.model(self.last, past_key_values=self.cache, use_cache=True)
            self.cache, self.last = found.past_key_values, found.logits[:, -1:].argmax(-1)
        return steps


def low_bit(model: Decoder, bits: int) -> Decoder:
    """A copy with weights of so many bits, one scale for 32 inputs."""
    copied = copy.deepcopy(model)
    quantize_model(copied, WeightScheme(bits, 32), torch.bfloat16)
    return copied


def contenders(model: Decoder, folder: Path, threads: int) -> dict[str, Contender]:
    """All that can be made here."""
    found: dict[str, Contender] = {}
    bf16 = copy.deepcopy(model).to(torch.bfloat16)
    if library.available():
        for bits in (4, 8):
            found[f"arriero int{bits}"] = Ours(
                low_bit(model, bits), lambda m, pool: NativeRunner(m, pool, head="int8")
            )
        found["arriero bf16"] = Ours(bf16, NativeRunner)
    found["arriero torch bf16"] = Ours(bf16, TorchRunner)
    if find_spec("llama_cpp"):
        for kind in ("Q4_0", "Q8_0", "F16"):
            found[f"llama.cpp {kind}"] = LlamaCpp(model, kind, folder, threads)
    if find_spec("transformers"):
        found["transformers bf16"] = Transformers(model, folder / "hf")
    return found


def measure(one: Contender, ids: list[int], steps: int) -> Figures:
    """Tokens a second of one contender in one round."""

    def speed(work: Callable[[], int]) -> float:
        started = time.perf_counter()
        return work() / (time.perf_counter() - started)

    figures = {"prompt": speed(lambda: one.prompt(ids))}
    one.start(ids[:BEFORE])
    one.decode(2)
    one.start(ids[:BEFORE])
    figures["decode"] = speed(lambda: one.decode(steps))
    if isinstance(one, Ours):
        one.start(ids[:BEFORE])
        figures["streams"] = speed(lambda: one.streams(steps))
    return figures


def divergence(model: Decoder, count: int = 128) -> float:
    """Mean KL in nats of the next token's distribution, own head against int8 head, on tokens drawn from the model."""
    generator = torch.Generator().manual_seed(0)
    sides = [
        Ours(model, lambda m, pool, head=head: NativeRunner(m, pool, head=head)) for head in ("as_is", "int8")
    ]
    last, total = 1, 0.0
    for step in range(count):
        logits = []
        for side in sides:
            rows = Rows()
            rows.add([last], step, side.blocks[0], [0])
            logits.append(side.runner.run(rows)[0].double().log_softmax(-1))
        total += float((logits[0].exp() * (logits[0] - logits[1])).sum())
        last = int(torch.multinomial(logits[0].exp(), 1, generator=generator))
    return total / count


def ratios(rounds: dict[str, list[Figures]]) -> Figures:
    """Medians over the rounds of what each round gave."""
    found = {}
    for name, (ours, what), (theirs, other) in RATIOS:
        if ours in rounds and theirs in rounds:
            pairs = zip(rounds[ours], rounds[theirs], strict=True)
            found[name] = statistics.median(a[what] / b[other] for a, b in pairs)
    return found


def run(name: str, model: Decoder, options: argparse.Namespace) -> dict[str, Any]:
    """One model's figures, printed as they come."""
    ids = torch.randint(
        5, model.config.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(0)
    ).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        everyone = contenders(model, Path(scratch), options.threads)
        rounds: dict[str, list[Figures]] = {who: [] for who in everyone}
        for _ in range(options.rounds):
            for who, one in everyone.items():
                time.sleep(0.2)  # the other side's threads stop spinning
                rounds[who].append(measure(one, ids, options.steps))
    print(f"\n{name}, {options.threads} threads, {library.describe()}")
    print(f"{'tokens/s':22}{'prompt 512':>12}{'decode':>10}{'8 streams':>11}")
    medians = {
        w: {k: statistics.median(r[k] for r in found) for k in found[0]} for w, found in rounds.items()
    }
    for who, figures in medians.items():
        cells = [f"{figures[k]:.1f}" if k in figures else "" for k in ("prompt", "decode", "streams")]
        print(f"{who:22}{cells[0]:>12}{cells[1]:>10}{cells[2]:>11}")
    compared = ratios(rounds)
    for what, ratio in compared.items():
        print(f"{what:32}{ratio:6.2f}")
    kl = divergence(low_bit(model, 8)) if library.available() else None
    if kl is not None:
        print(f"int8 head: mean KL {kl:.2e} nats from the model's own head")
    return {"tokens_per_s": medians, "ratios": compared, "rounds": rounds, "int8_head_kl": kl}


def models(options: argparse.Namespace) -> dict[str, Decoder]:
    """The models to measure, in float32."""
    found = {}
    for name in options.shapes:
        if name == "135M" and options.model is not None:
            model = load_decoder(options.model, dtype="float32")
            use_plain_layers(model, torch.float32)
            found[options.model.stem] = model
            continue
        model = Decoder(DecoderConfig.model_validate({**SHAPES[name], "context_length": 2048}))
        model.init_weights(0)
        found[name] = model
    return {name: model.eval() for name, model in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "model", nargs="?", type=Path, help="folder or GGUF file in place of the random 135M shape"
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32, help="decoded tokens of a measurement")
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {name: run(name, model, options) for name, model in models(options).items()}
    if options.output is not None:
        options.output.write_text(
            json.dumps({"threads": options.threads, "models": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
