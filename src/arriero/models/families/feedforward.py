"""The feed-forward language model (Bengio et al. 2003), in folders of Arriero's own."""

from __future__ import annotations

from arriero.models.family import Family
from arriero.models.feedforward_config import FeedForwardConfig

FAMILY = Family(
    name="feedforward",
    model_type="arriero_feedforward",
    config=FeedForwardConfig,
    network="arriero.models.feedforward_lm:FeedForwardLM",
    architectures={"ArrieroFeedForwardForCausalLM": "causal_lm"},
    keys={field: field for field in FeedForwardConfig.model_fields if field != "family"},
    modules={name: name for name in ("embedding", "feed_forward", "head", "direct")},
    cite="Bengio, Ducharme, Vincent and Jauvin 2003",
)
