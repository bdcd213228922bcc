"""Elman's recurrent network as a language model (Mikolov et al. 2010): the LSTM's file without the gates."""

from __future__ import annotations

from dataclasses import replace

from arriero.models.families import lstm

FAMILY = replace(
    lstm.FAMILY,
    name="rnn",
    model_type="arriero_rnn",
    architectures={"ArrieroRnnForCausalLM": "causal_lm"},
    cite="Elman 1990; Mikolov et al. 2010",
)
