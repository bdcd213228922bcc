"""How long a fresh `arriero serve` takes to the first token of its first answer.

    python benchmarks/first_token.py MODEL [--rounds 3] [--limit 5] [-- MORE OPTIONS OF serve]

Each round starts the server as a new process on a free port, asks for a streamed answer as soon as the port opens, and
ends it. Printed for each round: seconds from the start of the process to its first line (the address), to the first
token, and to the end of an answer of 16 tokens; the last line is JSON. Exit status 1 when the median of the first
token is over --limit seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx


def one_round(model: str, more: list[str]) -> dict[str, float]:
    """Seconds since the process was started."""
    command = [
        sys.executable,
        "-m",
        "arriero",
        "serve",
        model,
        "--port",
        "0",
        "--api-key",
        "first-token",
        *more,
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = _address(process)
        found = {"address": time.perf_counter() - started}
        with httpx.Client(
            base_url=address, headers={"Authorization": "Bearer first-token"}, timeout=60
        ) as client:
            found["first_token"] = _ask(client, started)
            found["answer"] = time.perf_counter() - started
        return found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        if match:
            return match[0]
    raise SystemExit(f"the server did not start:\n{''.join(seen)}")


def _ask(client: httpx.Client, started: float) -> float:
    body: dict[str, Any] = {"model": "any", "prompt": "Once upon a time", "max_tokens": 16, "stream": True}
    body["model"] = _until_open(client)
    first = 0.0
    with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"] and not first:
                first = time.perf_counter() - started
    return first


def _until_open(client: httpx.Client) -> str:
    """The model's name, as soon as the port is open."""
    while True:
        try:
            return str(client.get("/v1/models").json()["data"][0]["id"])
        except httpx.ConnectError:
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("model", help="folder or GGUF file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds")
    parser.add_argument("more", nargs="*", help="options of arriero serve, after --")
    given = parser.parse_args()
    rounds = []
    for number in range(given.rounds):
        rounds.append(one_round(given.model, given.more))
        print(
            f"round {number + 1}: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in rounds[-1].items())
        )
    medians = {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}
    print(json.dumps({"benchmark": "first_token", "model": given.model, "limit_s": given.limit, **medians}))
    sys.exit(medians["first_token"] > given.limit)


if __name__ == "__main__":
    main()
