"""Which requests can be served at all: refused before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arriero.inference.request import Request, RequestError
from arriero.inference.sequence import check_prompt, check_sampling

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore


@dataclass(frozen=True)
class Admission:
    """What an engine can hold.

    Attributes:
        vocab_size: ids that the model knows. vocabulary: ids that may be generated.
        context_length: most tokens of prompt and answer together. pool_tokens: the same by the key-value pool.
        has_draft: whether there is a draft model.
    """

    vocab_size: int
    vocabulary: int
    context_length: int
    pool_tokens: int
    adapters: AdapterStore | None = None
    has_draft: bool = False

    def check(self, request: Request) -> int:
        """The most tokens that an answer may have.

        Raises:
            RequestError: the request can never be served.
        """
        check_prompt(request.prompt, self.vocab_size)
        check_sampling(request.sampling, self.vocabulary)
        self._check_adapter(request.adapter)
        if request.speculative == "draft" and not self.has_draft:
            raise RequestError(
                "the engine has no draft model: load one, or ask for speculation by 'prompt', 'auto' or 'off'",
                param="speculative",
            )
        length, wanted = len(request.prompt), request.sampling.max_tokens
        room = min(self.context_length, self.pool_tokens)
        what = "context" if room == self.context_length else "key-value pool"
        if length >= room:
            raise RequestError(
                f"the prompt has {length:,} tokens, the {what} holds {room:,}, answer included: shorten the prompt",
                param="messages",
                code="context_length_exceeded",
            )
        if wanted is not None and length + wanted > room:
            raise RequestError(
                f"the prompt's {length:,} tokens and max_tokens {wanted:,} do not fit the {what} of {room:,}: "
                f"ask for at most {room - length:,} tokens",
                param="max_tokens",
                code="context_length_exceeded",
            )
        return room - length if wanted is None else wanted

    def _check_adapter(self, name: str | None) -> None:
        if name is None:
            return
        known = [] if self.adapters is None else self.adapters.names()
        if name not in known:
            raise RequestError(
                f"no adapter is called '{name}'; loaded are: {', '.join(known) or 'none'}",
                param="model",
                code="model_not_found",
            )
