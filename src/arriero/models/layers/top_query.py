"""The top query layer (Zeng et al., PanGu-alpha, arXiv 2104.12369; Zheng et al., CodeGeeX, arXiv 2303.17568)."""

from __future__ import annotations

from torch import Tensor

from arriero.models.layers.attention import Attention, Places


class TopQueryAttention(Attention):
    """Self-attention whose queries know only their place: ``q = W_q p_t``, with keys and values of x as ever.

    ``places`` of a call: a learned vector for each token's place, [B or 1, T, d_model].
    """

    def _queries_keys(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        q = self._heads(self.q_proj(places), self.n_heads)
        return q.expand(len(x), -1, -1, -1), self._heads(self.k_proj(x), self.n_kv_heads)
