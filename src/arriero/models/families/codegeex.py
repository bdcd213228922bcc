"""CodeGeeX, in folders of Arriero's own: GPT-2 whose last block's queries are a table of positions, above the norm."""

from __future__ import annotations

from dataclasses import replace

from arriero.models.families import gopher

FAMILY = replace(
    gopher.FAMILY,
    name="codegeex",
    model_type="arriero_codegeex",
    architectures={"ArrieroCodeGeeXForCausalLM": "causal_lm"},
    fixed={
        **gopher.FIXED,
        "norm": "layer",
        "norm_bias": True,
        "positions": "learned",
        "position_offset": 0,
        "top_query": True,
        "activation": "gelu_quick",
    },
    modules={
        **gopher.MODULES,
        "positions": "positions",
        "positions_of_queries": "positions_of_queries",
    },
    parameters={},
    cite="arXiv 2303.17568; its code, github.com/THUDM/CodeGeeX",
)
