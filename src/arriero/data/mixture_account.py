"""The account of a mixture: what each source should give and gives, how much of it is new, and what packing wastes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from arriero.data.mixed_windows import pass_length
from arriero.data.mixture import MixedOrder
from arriero.stage import TokenSplitSpec, TokensSpec

ACCOUNT_FILE = "account.json"
_TRAIN = "train"


class SourceAccount(BaseModel):
    """One source in one pass over the mixture. Shares are of the sampled windows; counts are tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: float
    """The share that was asked for."""
    achieved: float
    """The share of the windows that training takes, by the order in which it takes them."""
    tokens: int
    """What the source has, by the mixture's tokenizer, copies of up-weighted documents counted."""
    copies: int
    """Of them, in second and further copies of documents."""
    taken: int
    """Targets in the windows that a pass takes, repeats counted."""
    unique: int
    """Of them, those that are taken for the first time. Copies within a source are repeats too, by their share of it;
    where a pass takes only a part of such a source, a little more of it is new than this says."""
    repeated: int
    epochs: float
    """How often a pass takes the source on the average."""
    wasted: int
    """Tokens at the source's end that fill no window."""


class MixtureAccount(BaseModel):
    """`account.json` of a mixed tokens artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: str
    """Fingerprint; tokens are counted by it."""
    context_length: int
    seed: int
    windows: int
    """In one pass over the mixture."""
    sources: dict[str, SourceAccount]

    def lines(self) -> list[str]:
        """For reading."""
        head = f"one pass of {self.windows:,} windows of {self.context_length:,} tokens:"
        return [head, *(_line(name, source) for name, source in self.sources.items())]


def account(spec: TokensSpec, tokenizer: str, context_length: int, seed: int) -> MixtureAccount:
    """Count one pass over a mixture, window by window as training takes them.

    A source that fills no window is left out by training: its achieved share is 0, and the others share its part.
    """
    splits = {name: source.splits[_TRAIN] for name, source in spec.mixture.items()}
    tokens = {name: split.tokens for name, split in splits.items()}
    sizes = {name: max(own - 1, 0) // context_length for name, own in tokens.items()}
    used = [name for name, size in sizes.items() if size]
    taken = dict.fromkeys(tokens, 0)
    windows = 0
    if used:
        windows = pass_length([sizes[name] for name in used], spec.pass_epochs)
        total = sum(spec.mixture[name].share for name in used)
        shares = [spec.mixture[name].share / total for name in used]
        order = MixedOrder([sizes[name] for name in used], shares, seed)
        taken.update(zip(used, order.before(windows), strict=True))
    sources = {
        name: _of_source(
            spec.mixture[name].share, splits[name], sizes[name], taken[name], windows, context_length
        )
        for name in tokens
    }
    return MixtureAccount(
        tokenizer=tokenizer, context_length=context_length, seed=seed, windows=windows, sources=sources
    )


def _of_source(
    share: float, own: TokenSplitSpec, size: int, taken: int, windows: int, length: int
) -> SourceAccount:
    once = min(taken, size) * length
    unique = once - round(once * own.repeated / own.tokens) if own.tokens else 0
    return SourceAccount(
        target=share, achieved=taken / windows if windows else 0.0, tokens=own.tokens, copies=own.repeated,
        taken=taken * length, unique=unique, repeated=taken * length - unique,
        epochs=taken / size if size else 0.0, wasted=max(own.tokens - 1 - size * length, 0),
    )  # fmt: skip


def _line(name: str, source: SourceAccount) -> str:
    if not source.epochs:
        return f"{name}: {source.tokens:,} tokens fill no window, so training leaves it out"
    return (
        f"{name}: {source.achieved:.2%} of {source.target:.2%} wanted; {source.unique:,} new tokens and"
        f" {source.repeated:,} repeated ({source.epochs:.2f} epochs), {source.wasted:,} in no window"
    )
