"""Recurrent language models: Elman's network (Mikolov et al. 2010) and the LSTM (Zaremba et al., arXiv 1409.2329)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.carrying import Carried, CarryingModel
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear
from arriero.models.layers.recurrent import Elman, Lstm, RecurrentLayer
from arriero.models.layers.segments import document_pieces
from arriero.models.recurrent_config import RecurrentConfig

_LAYERS: dict[str, type[Elman] | type[Lstm]] = {"rnn": Elman, "lstm": Lstm}


class Recurrent(CarryingModel):
    """A causal language model whose memory is a state of fixed size: (h,) or (h, c), each [B, n_layers, d_model].

    Dropout is applied to what goes from layer to layer, into the first and out of the last, never from one time to
    the next (Zaremba et al. 2014).
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        layer, width = _LAYERS[config.family], config.embedding_width
        self.embedding = Embedding(config.vocab_size, width)
        self.layers: nn.ModuleList = nn.ModuleList(
            layer(config.d_model if n else width, config.d_model, config.two_biases)
            for n in range(config.n_layers)
        )
        self.n_states = layer.n_states
        narrow = config.tie_embeddings and width != config.d_model
        self.projection = Linear(config.d_model, width, bias=True) if narrow else None
        self.head = None if config.tie_embeddings else Linear(config.d_model, config.vocab_size, bias=True)
        self.head_bias = nn.Parameter(torch.empty(config.vocab_size)) if self.head is None else None

    @property
    def width(self) -> int:
        """Width of :meth:`hidden`."""
        return self.config.width

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw fresh weights, the same bits for the same seed.

        Embeddings have ``init_std``; the other matrices 1/sqrt(3 d_model), the spread of torch's uniform draw.
        Biases are 0, but the forget gate's 1 (Jozefowicz et al. 2015).
        """
        generator = torch.Generator().manual_seed(seed)
        spread = 1 / math.sqrt(3 * self.config.d_model)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.zero_()
                continue
            std = self.config.init_std if name.startswith("embedding") else spread
            parameter.copy_(torch.empty(parameter.shape, device="cpu").normal_(0.0, std, generator=generator))
        for layer in self.layers:
            if isinstance(layer, Lstm):
                layer.bias_ih[layer.width : 2 * layer.width] = 1.0

    def initial_state(self, rows: int) -> Carried:
        """The state before any token: zeros, of that many rows."""
        like = self.embedding.weight
        shape = (rows, self.config.n_layers, self.config.d_model)
        return tuple(torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(self.n_states))

    def reset(self, state: Carried, rows: Tensor) -> Carried:
        """``state`` with the rows that are True in ``rows`` (bool [B]) as they are before any token."""
        return tuple(part * ~rows[:, None, None] for part in state)

    def hidden_with_state(
        self, ids: Tensor, state: Carried | None = None, *, segments: Tensor | None = None
    ) -> tuple[Tensor, Carried]:
        """(:meth:`hidden`, state after the last token), starting from ``state`` (None: before any token).

        A row's first token goes on from ``state`` whatever its segment.
        """
        carried = self.initial_state(ids.shape[0]) if state is None else state
        x = self._dropped(self.embedding(ids))
        outputs = []
        for start, stop, fresh in document_pieces(segments, ids.shape[1]):
            if fresh is not None:
                carried = self.reset(carried, fresh)
            output, carried = self._through_layers(x[:, start:stop], carried)
            outputs.append(output)
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        if self.projection is not None:
            x = self.projection(x)
        return x, carried

    def _through_layers(self, x: Tensor, state: Carried) -> tuple[Tensor, Carried]:
        after: list[tuple[Tensor, ...]] = []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, RecurrentLayer)
            x, last = layer(x, tuple(part[:, number] for part in state))
            x = self._dropped(x)
            after.append(last)
        return x, tuple(torch.stack(parts, dim=1) for parts in zip(*after, strict=True))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., width] -> [..., vocab_size]."""
        if self.head is None:
            return self.embedding.as_head(hidden, self.head_bias)
        result: Tensor = self.head(hidden)
        return result
