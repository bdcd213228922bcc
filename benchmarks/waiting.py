"""How OpenMP's threads wait, alone and beside other busy processes: what `arriero.process` sets and why.

    python benchmarks/waiting.py [--seconds 3]

Each case is a process of its own that trains a small model on all cores, alone or sharing them with
processes that do nothing but count. Prints median step times and the ratio of the library's default to Arriero's setting, case by case.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

SETTING = "GOMP_SPINCOUNT"
LIBRARY_DEFAULT = "300000"
"""What GNU's OpenMP takes when nothing is set and there are as many cores as threads (libgomp, env.c)."""


def train(seconds: float) -> float:
    """Median seconds of a bf16 training step of a model of 0.3 million parameters."""
    import torch
    from torch.nn import functional as F

    from arriero.models.decoder import Decoder
    from arriero.models.decoder_config import DecoderConfig

    config = DecoderConfig(
        vocab_size=1024, d_model=96, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=256, context_length=128
    )
    model = Decoder(config)
    model.init_weights(0)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(0, config.vocab_size, (8, 129), generator=torch.Generator().manual_seed(0))
    times = []
    deadline = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < deadline:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1])
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def child(setting: str, seconds: float) -> subprocess.Popen[str]:
    """A process that trains with that setting."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    command = [sys.executable, __file__, "--child", "--seconds", str(seconds)]
    return subprocess.Popen(command, env={**environment, SETTING: setting}, stdout=subprocess.PIPE, text=True)


def measure(setting: str, seconds: float) -> float:
    """:func:`train` in a process with that setting."""
    return float(child(setting, seconds).communicate()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each case trains")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(train(arguments.seconds))
        return
    from arriero.process import SPIN_COUNT

    for neighbours in (0, 1, 2, 3):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        time.sleep(1 if others else 0)
        try:
            default, ours = (
                measure(LIBRARY_DEFAULT, arguments.seconds),
                measure(SPIN_COUNT, arguments.seconds),
            )
        finally:
            for other in others:
                other.kill()
                other.wait()
        print(
            f"{neighbours} neighbours: default {default * 1e3:8.1f} ms, ours {ours * 1e3:8.1f} ms, "
            f"default/ours {default / ours:.2f}"
        )


if __name__ == "__main__":
    main()
