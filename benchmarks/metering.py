"""What the meter itself costs: run it, it prints a table.

    python benchmarks/metering.py [--seconds 20]

Overhead is CPU seconds, which do not depend on what else the machine does: those of a sleeping process that is metered in
the background, as a share of the wall time, and those of one sample, with children and memory and without.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arriero.cost.counters import Counters
from arriero.cost.meter import Meter
from arriero.cost.tariffs import Tariffs


def thread_share(seconds: float, file: Path) -> tuple[float, float]:
    """(share of the wall time, CPU seconds a sample) of a meter in the background while the process sleeps.

    Nothing else runs in the process then, so its CPU seconds are the meter's.
    """
    with Meter(file, Tariffs.load()) as meter:
        begun, before = time.monotonic(), time.process_time()
        time.sleep(seconds)
        used, wall = time.process_time() - before, time.monotonic() - begun
        samples = max(1, int(wall))
    del meter
    return used / wall, used / samples


def beat_seconds(file: Path, children: int, ballast: int) -> float:
    """CPU seconds of one sample with so many child processes and bytes of memory of its own."""
    block = bytearray(ballast)
    block[::4096] = b"x" * len(block[::4096])
    script = "import sys; sys.stdin.read()"
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) for _ in range(children)
    ]
    time.sleep(0.5)
    with Meter(file, Tariffs.load(), background=False) as meter:
        before = time.process_time()
        for _ in range(50):
            meter.beat()
        used = (time.process_time() - before) / 50
    for child in started:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how long the background thread is watched"
    )
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "meter.jsonl"
        share, sample = thread_share(seconds, file)
        print(
            f"sampling thread over {seconds:g} s      {share:.3%} of the wall time, {sample * 1e3:.2f} ms a sample"
        )
        for children, ballast in ((0, 0), (8, 0), (0, 1 << 30)):
            used = beat_seconds(Path(folder) / f"{children}-{ballast}.jsonl", children, ballast)
            print(
                f"one sample, {children} children, {ballast >> 20:5d} MiB   {used * 1e3:.2f} ms = {used:.3%} of a second"
            )
    missing = Counters.system().missing
    for name in ("package", "accelerator"):
        print(f"energy of the {name}: {missing.get(name, 'counted')}")


if __name__ == "__main__":
    main()
