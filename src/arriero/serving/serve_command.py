"""`arriero serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from arriero.errors import ArrieroError

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


# fmt: off
@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; the default is this machine only.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--api-key", envvar="ARRIERO_API_KEY", help="Key that clients must send.  [default: made and printed]")
@click.option("--key-file", type=click.Path(path_type=Path), help="File of keys, one a line; each of them opens.")
@click.option("--no-key", is_flag=True, help="Let anyone who reaches the port use the model.")
@click.option("--max-batch", type=click.IntRange(min=1), default=32, show_default=True, help="Answers at a time.")
@click.option("--max-queue", type=click.IntRange(min=0), default=64, show_default=True, help="Answers that wait.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True,
              help="Longest answer where the request names no limit.")
@click.option("--max-prompt", type=click.IntRange(min=1), help="Longest prompt in tokens.  [default: the context]")
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True,
              help="Longest time of a request.")
@click.option("--kv-tokens", type=click.IntRange(min=2), help="Tokens of the key-value pool.  [default: by memory]")
@click.option("--kv-dtype", type=click.Choice(["auto", "fp32", "bf16", "int8"]), default="auto", show_default=True,
              help="Type of keys and values.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:N; auto takes a GPU if there is one.")
@click.option("--runner", type=click.Choice(["auto", "native", "torch", "cuda"]), default="auto", show_default=True,
              help="What computes.")
@click.option("--head", type=click.Choice(["as_is", "int8"]), default="as_is", show_default=True,
              help="int8 is faster, and gives slightly other answers.")
@click.option("--fp8", is_flag=True, help="Multiply in float8 on a GPU (Hopper); slightly other answers.")
@click.option("--draft", metavar="MODEL", type=click.Path(path_type=Path),
              help="Small model with the same tokenizer that guesses tokens ahead.")
@click.option("--no-prefix-cache", is_flag=True, help="Compute every prompt from its first token.")
@click.option("--adapter", "adapters", metavar="NAME=FOLDER", multiple=True, help="LoRA adapter to load (repeatable).")
@click.option("--adapters", "adapter_folder", type=_FOLDER, help="Let clients load adapters from under this folder.")
@click.option("--embeddings", type=click.Path(path_type=Path),
              help="Folder of the model for embeddings.  [default: MODEL by mean pooling]")
@click.option("--cost", "costs", metavar="KEY=VALUE", multiple=True,
              help="Tariff, as in a recipe's section cost: watts, price_per_hour, currency ... (repeatable).")
def serve(model: Path, **options: Any) -> None:
    # fmt: on
    """Serve a model: OpenAI-compatible API and a chat page."""
    from arriero.serving.server import ServerOptions
    from arriero.serving.server import serve as start

    engine = {
        "max_batch": options.pop("max_batch"),
        "max_tokens_total": options.pop("kv_tokens"),
        "kv_dtype": options.pop("kv_dtype"),
        "device": options.pop("device"),
        "runner": options.pop("runner"),
        "head": options.pop("head"),
        "fp8": options.pop("fp8"),
        "draft": options.pop("draft"),
        "prefix_cache": not options.pop("no_prefix_cache"),
    }
    options["max_prompt_tokens"] = options.pop("max_prompt")
    options["adapters"] = {name: Path(folder) for name, folder in _pairs("--adapter", options["adapters"])}
    options["costs"] = {key: _number(value) for key, value in _pairs("--cost", options["costs"])}
    start(model, ServerOptions(**options), **engine)


def _pairs(option: str, given: tuple[str, ...]) -> list[tuple[str, str]]:
    for text in given:
        if not all(text.partition("=")):
            raise ArrieroError(f"{option} '{text}' should be NAME=VALUE")
    return [(name, value) for name, _, value in (text.partition("=") for text in given)]


def _number(text: str) -> Any:
    """A value as a recipe would have it."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
