"""The stage ``mix``: several token sets as one, each with its share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.data.quality.foresee import MOST_EPOCHS
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    Input,
    Inputs,
    MixedSourceSpec,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    TokenSplitSpec,
    TokensSpec,
    register,
)

if TYPE_CHECKING:
    from arriero.data.shards import TokensMeta

TRAIN = "train"


class MixSettings(StageSettings):
    """Shares by one of four rules; without any, sources are mixed in proportion to their size."""

    weights: dict[str, float] = Field(
        default={},
        description="share of each source in the sampled tokens, by its stage's name; need not add up to 1",
    )
    epochs: dict[str, float] = Field(
        default={},
        description="how often one pass takes each source, by its stage's name: {wiki: 2, web: 0.5}",
    )
    preset: str | None = Field(
        default=None, description="a published mixture whose source names the stages have: llama-1, gpt-3"
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="shares in proportion to tokens^(1/temperature): above 1 small sources get more than their size",
    )
    account_length: int = Field(
        default=1024,
        ge=1,
        description="context length for which the account (account.json) counts windows, repeats and waste",
        json_schema_extra={"in_key": False},
    )

    @model_validator(mode="after")
    def _one_rule(self) -> MixSettings:
        given = [name for name in ("weights", "epochs", "preset", "temperature") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} both decide on the shares; give one of them")
        if self.preset:
            from arriero.data.mixture import preset_weights

            try:
                preset_weights(self.preset)
            except ArrieroError as error:
                raise ValueError(str(error)) from None
        return self


@register
class Mix(Stage[MixSettings]):
    """Put several token sets together, so that training samples them with given shares.

    Nothing is copied where the file system has links. Training sees the sources interleaved: within any thousand
    windows or so each has its share, and a source that is through starts again in another order. Held-out splits stay
    apart by source, so that a run tells the loss of each.
    """

    kind = "mix"
    version = 1
    makes = "tokens"
    inputs = {"tokens": Input("tokens", "token sets by the same tokenizer", many=True, named=True)}
    help = "mix token sets with shares, epochs or a temperature"
    Settings = MixSettings

    def plan(self, settings: MixSettings, specs: Specs, device: DeviceProfile) -> Plan:
        sources: dict[str, TokensSpec] = specs["tokens"]
        spec = mixed_spec(settings, sources)
        estimate = Estimate(
            seconds=Quantity.band(0.5, 1.0, "s", "modelled", "links, no copies"),
            peak_memory=Quantity.band(float(device.process_bytes), 0.3, "B", "modelled", "the process"),
            flops=Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work"),
        )
        return Plan(spec, estimate, mixture_lines(spec))

    def run(self, settings: MixSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.artifacts.commit import write_bytes_atomic
        from arriero.data.mixture_account import ACCOUNT_FILE, account
        from arriero.data.shards import META_FILE, read_meta
        from arriero.data.tokenize import tokenizer_folder
        from arriero.tokenization.tokenizer import Tokenizer

        artifacts: dict[str, Artifact] = inputs["tokens"]
        metas = {name: read_meta(artifact.path) for name, artifact in artifacts.items()}
        _same_tokenizer(metas)
        specs = {name: TokensSpec.model_validate(a.manifest.spec) for name, a in artifacts.items()}
        spec = mixed_spec(settings, specs)
        meta = mixed_meta(spec, metas)
        for name, artifact in artifacts.items():
            _link(artifact, metas[name], context, name)
        first = next(iter(artifacts.values()))
        tokenizer = Tokenizer.load(tokenizer_folder(first.path))
        tokenizer.save(tokenizer_folder(context.folder))
        write_bytes_atomic(context.folder / META_FILE, (meta.model_dump_json(indent=2) + "\n").encode())
        found = account(spec, meta.tokenizer, settings.account_length, context.seed)
        write_bytes_atomic(context.folder / ACCOUNT_FILE, (found.model_dump_json(indent=2) + "\n").encode())
        for line in [*mixture_lines(spec), *found.lines()]:
            context.say(line)
        facts = {
            "tokenizer": meta.tokenizer,
            "shares": {n: s.share for n, s in spec.mixture.items()},
            "account": found.model_dump(mode="json"),
        }
        return Outcome(spec, facts)


def mixed_spec(settings: MixSettings, sources: Mapping[str, TokensSpec]) -> TokensSpec:
    """What the mixture will be.

    Raises:
        ArrieroError: fewer than two sources, a mixture of mixtures, other vocabularies, or shares that do not fit.
    """
    from arriero.data.mixture import normalised, preset_weights, shares_by_weight

    names = list(sources)
    if len(names) < 2:
        raise ArrieroError(f"a mixture takes two sources or more, not {len(names)}")
    for name, spec in sources.items():
        if spec.mixture:
            raise ArrieroError(f"'{name}' is a mixture itself; give its sources")
        if spec.vocab_size != sources[names[0]].vocab_size:
            raise ArrieroError(
                f"'{name}' has another vocabulary than '{names[0]}'; use one tokenizer for all"
            )
    tokens = [sources[name].splits[TRAIN].tokens for name in names]
    epochs = 1.0
    if settings.epochs:
        shares_by_weight(settings.epochs, names)  # its complaints about names
        parts = [settings.epochs[name] * size for name, size in zip(names, tokens, strict=True)]
        shares, epochs = normalised(parts, names), sum(parts) / sum(tokens)
    elif settings.weights or settings.preset:
        weights = settings.weights or preset_weights(settings.preset or "")
        shares = shares_by_weight(weights, names)
    else:
        shares = normalised([size ** (1 / (settings.temperature or 1.0)) for size in tokens], names)
    mixture = {
        name: MixedSourceSpec(share=share, splits=sources[name].splits)
        for name, share in zip(names, shares, strict=True)
    }
    return TokensSpec(
        vocab_size=sources[names[0]].vocab_size, splits=_sums(sources), mixture=mixture, pass_epochs=epochs
    )


def mixture_lines(spec: TokensSpec) -> list[str]:
    """Each source's share, tokens and epochs in one pass; and what is repeated too often."""
    total = spec.splits[TRAIN].tokens * spec.pass_epochs
    lines = []
    for name, source in spec.mixture.items():
        own = source.splits[TRAIN].tokens
        epochs = source.share * total / own
        line = f"{name}: {source.share:.1%} of the samples; {own:,} tokens of its own, {epochs:.2f} epochs a pass"
        if repeated := source.splits[TRAIN].repeated:
            line += f" ({repeated:,} of them further copies of good documents)"
        lines.append(line + (f" (more than {MOST_EPOCHS:g} teach little)" if epochs > MOST_EPOCHS else ""))
    return lines


def mixed_meta(spec: TokensSpec, metas: Mapping[str, TokensMeta]) -> TokensMeta:
    """`tokens.json` of the mixture: the shards of all sources, each in a folder of its source's name."""
    from arriero.data.shards import MixedSourceMeta, SplitMeta

    mixture = {}
    for name, meta in metas.items():
        splits = {
            split: SplitMeta(shards=[s.model_copy(update={"file": f"{name}/{s.file}"}) for s in found.shards])
            for split, found in meta.splits.items()
        }
        mixture[name] = MixedSourceMeta(share=spec.mixture[name].share, splits=splits)
    together = {
        split: SplitMeta(
            shards=[
                s
                for source in mixture.values()
                if split in source.splits
                for s in source.splits[split].shards
            ]
        )
        for split in spec.splits
    }
    first = next(iter(metas.values()))
    return first.model_copy(update={"splits": together, "mixture": mixture, "pass_epochs": spec.pass_epochs})


def _sums(sources: Mapping[str, TokensSpec]) -> dict[str, TokenSplitSpec]:
    names = dict.fromkeys(split for spec in sources.values() for split in spec.splits)
    found = {name: [spec.splits[name] for spec in sources.values() if name in spec.splits] for name in names}
    return {
        name: TokenSplitSpec(
            documents=sum(s.documents for s in splits), tokens=sum(s.tokens for s in splits),
            bytes=sum(s.bytes for s in splits), repeated=sum(s.repeated for s in splits),
        )
        for name, splits in found.items()
    }  # fmt: skip


def _same_tokenizer(metas: Mapping[str, Any]) -> None:
    first = next(iter(metas))
    for name, meta in metas.items():
        if meta.tokenizer != metas[first].tokenizer:
            raise ArrieroError(
                f"'{name}' was encoded by another tokenizer than '{first}'; use one for all sources"
            )


def _link(artifact: Artifact, meta: TokensMeta, context: Context, name: str) -> None:
    from arriero.data.shard_writer import publish

    (context.folder / name).mkdir()
    publish(artifact.path, context.folder / name, meta)
