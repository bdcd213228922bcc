"""The LSTM language model (Sundermeyer et al. 2012; Zaremba et al., arXiv 1409.2329), in folders of Arriero's own."""

from __future__ import annotations

from arriero.models.family import Family
from arriero.models.recurrent_config import RecurrentConfig

MODULES = ("embedding", "layers.{}", "projection", "head")

FAMILY = Family(
    name="lstm",
    model_type="arriero_lstm",
    config=RecurrentConfig,
    network="arriero.models.recurrent:Recurrent",
    architectures={"ArrieroLstmForCausalLM": "causal_lm"},
    keys={field: field for field in RecurrentConfig.model_fields if field != "family"},
    modules={name: name for name in MODULES},
    parameters={"head_bias": "head_bias"},
    cite="Hochreiter and Schmidhuber 1997; Sundermeyer et al. 2012; arXiv 1409.2329",
)
