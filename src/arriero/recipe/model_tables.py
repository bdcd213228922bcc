"""Published shapes and models on disk as tables in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.units import format_bytes, format_count, format_flops
from arriero.models.config import ModelConfig
from arriero.models.preset import presets
from arriero.models.shape import ModelShape

_COLUMNS = ("d_model", "n_layers", "n_heads", "n_kv_heads", "context_length")


def print_presets(console: Console, family: str | None = None) -> None:
    """Every published shape on a line, of one family or all."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("preset", "family", "year"):
        table.add_column(name)
    for name in ("parameters", *_COLUMNS):
        table.add_column(name, justify="right")
    for name, preset in presets().items():
        if family in (None, preset.family):
            config = preset.config
            cells = [_cell(config, column) for column in _COLUMNS]
            table.add_row(name, preset.family, str(preset.year), f"{preset.parameters:,}", *cells)
    console.print(table)


def _cell(config: ModelConfig, column: str) -> str:
    """A figure of the configuration; of an encoder-decoder that of either side."""
    sides = [getattr(config, f"{side}_{column.removeprefix('n_')}", None) for side in ("encoder", "decoder")]
    return str(getattr(config, column, "")) if None in sides else " + ".join(map(str, sides))


def print_shape(shape: ModelShape, console: Console) -> None:
    """One model: its configuration, its parameters by part, what a token costs."""
    told = f", {shape.source} ({shape.year})" if shape.source else ""
    console.print(f"[bold]{escape(shape.name)}[/]: family {shape.family}{escape(told)}\n")
    console.print(_grid({key: _text(value) for key, value in shape.config.items()}, "configuration"))
    parts = {part: f"{count:,}  ({count / shape.total:.1%})" for part, count in shape.parameters.items()}
    console.print(_grid({**parts, "all": f"{shape.total:,}"}, "parameters"))
    console.print(_grid(_costs(shape), "costs"))


def _costs(shape: ModelShape) -> dict[str, str]:
    costs = {
        f"weights in {name}": format_bytes(shape.total * bits / 8)
        for name, bits in (("float32", 32), ("bfloat16", 16), ("8 bits", 8), ("4 bits", 4))
    }
    if shape.forward_flops_per_token is not None:
        forward = shape.forward_flops_per_token
        costs[f"forward a token, {shape.length:,} tokens"] = format_flops(forward)
        costs["training a token (three times that)"] = format_flops(3 * forward)
    if shape.kv_bytes_per_token is not None:
        context = int(shape.config["context_length"])
        costs["keys and values a token, 16 bits"] = f"{shape.kv_bytes_per_token:,} bytes"
        costs[f"the same for {format_count(context)} tokens"] = format_bytes(
            shape.kv_bytes_per_token * context
        )
    return costs


def _grid(rows: dict[str, str], title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    table.add_column(min_width=34)
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(escape(name), escape(value))
    return table


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
