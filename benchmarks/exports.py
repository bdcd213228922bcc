"""Whether what is written for other tools says there what it says here: one table of every export.

    python benchmarks/exports.py MODEL [--max-tokens 64] [--work DIR]

MODEL: a decoder's folder or GGUF file. It is written as a float32 Hugging Face folder, quantised to int8 and int4 in the
compressed-tensors format, and as GGUF files (F16, Q8_0, Q4_0); each is then read by the other tool, transformers or
llama.cpp, and both score the same texts (`arriero compare`; the folders in float32 on both sides, so that only the files
are compared). Printed for each: the mean KL divergence, the largest difference of a token's log-probability, how often
both find the same token most probable, and whether ids and chat texts are equal; the last line is JSON. Exit status 1 when
ids or texts differ, or the divergence is over what the other tool's arithmetic explains: 1e-6 nats in float32, 1e-3 for
llama.cpp's float16, 0.05 where it rounds the activations to eight bits too (Q8_0, Q4_0).

Needs transformers with compressed-tensors, and llama-cpp-python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMITS = {"gguf F16": 1e-3, "gguf Q8_0": 0.05, "gguf Q4_0": 0.05}
"""Mean KL divergence in nats; 1e-6 for all others."""


def arriero(*arguments: str, code: int = 0) -> str:
    """What the command prints; any other end than ``code`` or 0 ends the script."""
    done = subprocess.run([sys.executable, "-m", "arriero", *arguments], capture_output=True, text=True)
    if done.returncode not in (0, code):
        sys.exit(f"arriero {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def as_folder(model: Path, folder: Path) -> Path:
    """MODEL as a Hugging Face folder in float32."""
    from arriero.models.checkpoint import load_decoder, save_model
    from arriero.tokenization.load import load_tokenizer

    folder.mkdir(parents=True)
    save_model(load_decoder(model, dtype="float32"), folder, "float32")
    load_tokenizer(model).save(folder)
    return folder


def exports(folder: Path, work: Path) -> dict[str, tuple[Path, list[str]]]:
    """What is written, and how it is compared: name to path and options."""
    with_transformers = ["--with", "transformers", "--exact"]
    found: dict[str, tuple[Path, list[str]]] = {"huggingface float32": (folder, with_transformers)}
    for scheme in ("int8", "int4"):
        out = work / scheme
        arriero(
            "quantize", "--model", str(folder), "--scheme", scheme, "--dtype", "float32", "--out", str(out)
        )
        found[f"compressed-tensors {scheme}"] = (out, with_transformers)
    for kind in ("F16", "Q8_0", "Q4_0"):
        out = work / kind
        arriero("export", "--model", str(folder), "--format", "gguf", "--gguf-type", kind, "--out", str(out))
        found[f"gguf {kind}"] = (out / "model.gguf", ["--with", "llama.cpp"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--max-tokens", type=int, default=64, help="scored of each text")
    parser.add_argument("--work", type=Path, help="folder for what is written; kept, where it is given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        work = options.work or Path(aside)
        written = exports(as_folder(options.model, work / "folder"), work)
        results: dict[str, Any] = {}
        print(
            f"{'export':<26}{'mean KL':>12}{'largest difference':>20}{'same most probable':>20}{'ids':>6}{'chat':>6}"
        )
        for name, (path, how) in written.items():
            told = arriero(
                "compare", str(path), *how, "--json", "--max-tokens", str(options.max_tokens), code=1
            )
            results[name] = result = json.loads(told) | {"limit": LIMITS.get(name, 1e-6)}
            print(row(name, result), flush=True)
    agree = all(map(agrees, results.values()))
    print(
        json.dumps({"benchmark": "exports", "model": options.model.name, "agree": agree, "results": results})
    )
    return 0 if agree else 1


def agrees(result: dict[str, Any]) -> bool:
    """None: the other tool has none, or gives no way to see it."""
    return result["mean_kl"] <= result["limit"] and False not in (result["ids_equal"], result["chat_equal"])


def row(name: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    says = {True: "same", False: "differ", None: "none"}
    return (
        f"{name:<26}{result['mean_kl']:>12.2g}{result['max_abs_dlogprob']:>20.2g}{result['top1_agreement']:>20.0%}"
        f"{says[result['ids_equal']]:>6}{says[result['chat_equal']]:>6}{'' if agrees(result) else '  DISAGREES'}"
    )


if __name__ == "__main__":
    sys.exit(main())
