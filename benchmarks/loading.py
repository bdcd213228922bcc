"""Peak memory of loading a model, as a multiple of its weights in memory, for every kind of file.

    python benchmarks/loading.py [--preset smollm2-135m] [--gguf F32 F16 Q8_0 Q4_0]

The model has the preset's shape and drawn weights, and is written to a folder that is removed afterwards. Each file is
loaded in a process of its own that has loaded a small model before, so that only what the weights take is counted.
Quantised weights of a GGUF file become float32. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def peak_over_weights(small: Path, large: Path) -> tuple[float, float]:
    """Peak of resident memory that loading ``large`` added, and the bytes of its weights; in this process."""
    from arriero.cost.allocator import return_freed_memory
    from arriero.models.checkpoint import load_model

    load_model(small)
    return_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    model = load_model(large)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return float(peak - before), float(sum(p.numel() * p.element_size() for p in model.parameters()))


def write(model: Any, folder: Path, kinds: list[str]) -> dict[str, Path]:
    """The model as a Hugging Face folder, in one file and in shards, and as GGUF files: name -> path."""
    from arriero.models.checkpoint import save_model, tensor_entries
    from arriero.models.gguf import GgufFile, written_type
    from arriero.models.hf_config import config_to_hf

    folder.mkdir()
    found = {}
    for name, dtype, shard_bytes in (
        ("folder, float32", "float32", 1 << 40),
        ("folder, float32, shards of 50 MB", "float32", 50_000_000),
        ("folder, bfloat16", "bfloat16", 1 << 40),
    ):
        found[name] = folder / name.replace(", ", "-").replace(" ", "-")
        save_model(model, found[name], dtype, shard_bytes=shard_bytes)
    values = config_to_hf(model.config, "float32", {})
    for kind in kinds:
        found[f"GGUF, {kind}"] = folder / f"{kind}.gguf"
        GgufFile(values, tensor_entries(model, "float32"), written_type(kind)).write(found[f"GGUF, {kind}"])
    return found


def build(preset: str, small: bool) -> Any:
    """A model of the preset's shape, or one layer of it with few words."""
    from arriero.models.checkpoint import build_model
    from arriero.models.preset import get_preset

    config = get_preset(preset).config
    model = build_model(config.model_copy(update={"n_layers": 1, "vocab_size": 256} if small else {}))
    model.init_weights(0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="smollm2-135m", help="a decoder that GGUF has")
    parser.add_argument("--gguf", nargs="*", default=["F32", "F16", "Q8_0", "Q4_0"], metavar="KIND")
    parser.add_argument("--child", nargs=2, type=Path, metavar=("SMALL", "LARGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(*peak_over_weights(*options.child))
        return
    print(f"{options.preset}: {'file':<34} {'weights':>9} {'peak':>9}   peak / weights")
    with tempfile.TemporaryDirectory() as scratch:
        small = write(build(options.preset, small=True), Path(scratch) / "small", options.gguf)
        large = write(build(options.preset, small=False), Path(scratch) / "large", options.gguf)
        for name, path in large.items():
            command = [sys.executable, __file__, "--child", str(small[name]), str(path)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            peak, weights = map(float, told.split())
            print(
                f"{'':<{len(options.preset)}}  {name:<34} {weights / 1e6:6.0f} MB {peak / 1e6:6.0f} MB   {peak / weights:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
