"""The fields that say how an answer is drawn; the same in every endpoint that generates."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Sampling, Speculative
from arriero.serving.errors import bad_request
from arriero.serving.schema.body import Body, Part

MAX_STOPS = 16
MAX_STOP_LENGTH = 1000
MAX_GRAMMAR_LENGTH = 1 << 18

NAMES = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "seed",
)
"""Fields that have the engine's names and ranges."""

StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class StreamOptions(Part):
    """How to stream."""

    include_usage: bool = Field(default=False, description="end the stream with the tokens used")
    include_obfuscation: bool = Field(default=False, description="accepted, without effect")


class SamplingFields(Body):
    """OpenAI's sampling fields, and vLLM's names for what OpenAI does not have."""

    temperature: float | None = Field(default=None, ge=0, le=2, description="0 takes the most probable token")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="fewest tokens whose probabilities reach p"
    )
    top_k: int | None = Field(
        default=None, ge=0, lt=2**31, description="the k most probable tokens; 0 keeps all"
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="drop tokens below this share of the best"
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="once for a token in the answer"
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="for each time a token is there"
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, le=100, description="CTRL's, prompt included"
    )
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, description="token id (as text) -> added to its logit"
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="same seed, same answer")
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = Field(
        default=None, description="the answer ends before the first of these texts"
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = Field(
        default=None, description="the answer ends with the first of these tokens"
    )
    min_tokens: int | None = Field(default=None, ge=0, lt=2**31, description="nothing ends the answer before")
    ignore_eos: bool | None = Field(default=None, description="go on past end tokens (for measuring speed)")
    guided_regex: str | None = Field(
        default=None, max_length=MAX_GRAMMAR_LENGTH, description="the answer matches this regular expression"
    )
    guided_grammar: str | None = Field(
        default=None, max_length=MAX_GRAMMAR_LENGTH, description="the answer is in this Lark grammar"
    )
    guided_json: dict[str, Any] | None = Field(default=None, description="the answer is in this JSON Schema")
    speculative: Speculative | None = Field(default=None, description="who may guess tokens ahead")
    include_cost: bool | None = Field(default=None, description="put energy and money into the usage")

    def make_sampling(
        self, max_tokens: int | None, logprobs: int | None, prompt_logprobs: int | None = None
    ) -> Sampling:
        """The engine's settings.

        Raises:
            ApiError: 400, they do not go together.
        """
        given = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if max_tokens is not None and (self.min_tokens or 0) > max_tokens:
            raise bad_request(
                f"'min_tokens' {self.min_tokens} is more than the answer's limit of {max_tokens} tokens",
                param="min_tokens",
                code="invalid_value",
            )
        return Sampling(
            **given,
            logit_bias=self._bias(),
            max_tokens=max_tokens,
            stop=tuple(stops),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            ignore_end=bool(self.ignore_eos),
        )

    def _bias(self) -> dict[int, float]:
        bias = {}
        for name, value in (self.logit_bias or {}).items():
            if not (name.isascii() and name.isdigit() and len(name) < 10):
                raise bad_request(
                    f"'logit_bias' should map token ids to numbers; '{name[:50]}' is no token id",
                    param="logit_bias",
                    code="invalid_value",
                )
            bias[int(name)] = value
        return bias

    def guide(self) -> GrammarSpec | None:
        """The grammar that a ``guided_`` field names.

        Raises:
            ApiError: 400, there is more than one.
        """
        from json import dumps

        found = []
        if self.guided_regex is not None:
            found.append(GrammarSpec("regex", self.guided_regex))
        if self.guided_grammar is not None:
            found.append(GrammarSpec("lark", self.guided_grammar))
        if self.guided_json is not None:
            found.append(GrammarSpec("json_schema", dumps(self.guided_json)))
        return only_one(found)


def only_one(found: list[GrammarSpec]) -> GrammarSpec | None:
    """The one grammar, or None.

    Raises:
        ApiError: 400, there is more than one.
    """
    if len(found) > 1:
        raise bad_request(
            "an answer can be in one grammar: give one of response_format, guided_json, guided_regex, guided_grammar",
            param="response_format",
            code="invalid_value",
        )
    return found[0] if found else None
