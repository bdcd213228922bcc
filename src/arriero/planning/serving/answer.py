"""From a question about serving to its sheet."""

from __future__ import annotations

from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Tariffs
from arriero.cost.time import Coefficients
from arriero.cost.time.tiers import TIERS, banded
from arriero.cost.units import format_count
from arriero.errors import ArrieroError
from arriero.planning.counts.subject import Held
from arriero.planning.estimate.coefficients import serving_coefficients
from arriero.planning.estimate.device_source import Device, find_device
from arriero.planning.estimate.figures import gib, plus_minus, price_words
from arriero.planning.estimate.fit import fit_of, runtime_bytes
from arriero.planning.estimate.layout_text import parse_layout
from arriero.planning.estimate.model_source import ModelSource, find_model
from arriero.planning.estimate.question import context_of, precision_of, traced_dtype
from arriero.planning.estimate.sheet import LeftOut
from arriero.planning.serving.held import held_of
from arriero.planning.serving.sheet import ServingQuestion, ServingSheet
from arriero.planning.serving.speeds import Service
from arriero.planning.serving.trial import trial_here
from arriero.planning.serving.workload import decoding_workload

_MILLION = 1e6
_HOUR = 3600.0


def estimate_serving(question: ServingQuestion) -> ServingSheet:
    """The sheet of a service.

    Raises:
        ArrieroError: no such model, device or region; a model that does not write; or a layout that does not fit.
    """
    model = find_model(question.model)
    tariffs = Tariffs.load(dict(question.tariffs))
    device = find_device(question.hardware, tariffs)
    if device.hardware is None and question.count > 1:
        raise ArrieroError(f"--count {question.count} needs --hardware: this machine is one device")
    service, coefficients = _service(question, model, device)
    return _sheet(question, model, device, tariffs, service, coefficients)


def _service(question: ServingQuestion, model: ModelSource, device: Device) -> tuple[Service, Coefficients]:
    context = context_of(question.context, model)
    if not 1 <= question.answer < context:
        raise ArrieroError(
            f"--answer {question.answer:g} should leave a token or more of --context {context:,} to the prompt"
        )
    pays = device.profile is not None and device.profile.bf16_pays
    precision = precision_of(question.precision, device.hardware, pays)  # type: ignore[arg-type]
    held: Held = question.weights or ("fp32" if precision == "fp32" else "bf16")
    if question.weights is None and question.precision is None and device.profile is not None:
        held = held_of(question.model, None, device.profile)
    workload = decoding_workload(
        model.config, context=context, dtype=traced_dtype(precision), weights=held, name=model.name
    )
    coefficients = serving_coefficients(device, precision, workload)
    answer = int(question.answer)
    runtime, capacity = runtime_bytes(device, question.count)[2], device.capacity.value
    services = [
        Service(
            workload,
            coefficients,
            tensor,
            context - answer,
            answer,
            question.batch,
            capacity,
            runtime,
            trial_here(device, model, held) if tensor == 1 else None,
            held,
        )
        for tensor in _tensor_sizes(question, workload.dimensions.n_heads, device.node)
    ]
    service = next((service for service in services if service.fits(service.batch)), services[-1])  # fmt: skip
    return service, service.basis


def _tensor_sizes(question: ServingQuestion, heads: int, node: int) -> list[int]:
    """Devices that one copy may be cut over, fewest first: as asked, or all powers of two that divide."""
    if question.parallel is not None:
        sizes = parse_layout(question.parallel, question.count)
        if sizes["pipeline"] > 1 or sizes["context"] > 1:
            raise ArrieroError(
                "--parallel with --serve: a copy is cut by tensor, and data makes copies; nothing else"
            )
        if heads % sizes["tensor"]:
            raise ArrieroError(f"--parallel: tensor {sizes['tensor']} does not divide the {heads} heads")
        return [sizes["tensor"]]
    powers = [2**n for n in range(8) if 2**n <= min(node, question.count)]
    return [size for size in powers if heads % size == 0 and question.count % size == 0]


def _sheet(
    question: ServingQuestion, model: ModelSource, device: Device, tariffs: Tariffs, service: Service,
    coefficients: Coefficients,
) -> ServingSheet:  # fmt: skip
    tier, price = TIERS[coefficients.tier], tariffs.hour_price(device.machine)
    first, token = banded(service.first_token(), coefficients), banded(service.token(), coefficients)
    copies = question.count // service.tensor
    fit = fit_of(service.memory(), device, question.count)
    answer = {
        "first token": first,
        "each answer": _rate(token, 1),
        "all answers": _rate(token, service.batch * copies),
        "1 M tokens in": _money(price, first, service.prompt, service.tensor, tariffs.currency),
        "1 M tokens out": _money(price, token, service.batch, service.tensor, tariffs.currency),
    }
    return ServingSheet(
        model=model.name,
        question=_question(question, device, service, copies),
        settings=_settings(question, service, copies),
        answer=answer,
        notes={
            "first token": f"prompt of {service.prompt:,} tokens, alone",
            "each answer": f"{service.batch} at a time, half-way through {service.answer:,} tokens",
            "all answers": f"of {copies} copies" if copies > 1 else "",
            "1 M tokens in": price_words(price, tariffs.currency),
            "1 M tokens out": "if the batch is always full" if price.known else "",
        },
        tier=f"tier {tier.letter}, {tier.name}: {tier.meaning}",
        fit=fit,
        users=_users(question, service, copies),
        step_seconds=service.token(),
        bounds=service.bounds(),
        kv_token=service.workload.kv_token,
        kv_stream=service.workload.kv_token * service.context,
        crossover=service.crossover(),
        left_out=(
            LeftOut(
                "besides",
                "network to the reader; waiting for a place; hours without readers, which cost the same",
            ),
        ),
        doubts=_doubts(price),
        next_action=_next(question, service, fit.short, device),
        sharper=f"`arriero calibrate` on one {device.name}: {plus_minus(first)} becomes ±{100 * TIERS['calibrated'].spread:.0f} %"
        if device.hardware is not None and first.known
        else "",
    )


def _rate(token: Quantity, streams: int) -> Quantity:
    """Tokens a second of ``streams`` answers that each get one every ``token`` seconds."""
    if token.value is None or token.low is None or token.high is None:
        return Quantity.unknown("tokens/s", token.source)
    return Quantity(
        value=streams / token.value, low=streams / token.high, high=streams / token.low, unit="tokens/s", basis="modelled",
        source=token.source,
    )  # fmt: skip


def _money(price: Quantity, seconds: Quantity, tokens: int, devices: int, currency: str) -> Quantity:
    """Money of a million tokens, where ``tokens`` take ``seconds`` of ``devices`` devices."""
    scaled = price.scaled(devices * _MILLION / (tokens * _HOUR))
    return scaled.times(seconds, currency, price.source if not price.known else seconds.source)


def _question(question: ServingQuestion, device: Device, service: Service, copies: int) -> str:
    total = service.workload.parameters.total
    devices = f"{question.count:,} × {device.name}" if device.hardware else device.name
    return f"{format_count(total)} parameters, answering on {devices}"


def _settings(question: ServingQuestion, service: Service, copies: int) -> tuple[tuple[str, str], ...]:
    found = [
        ("prompt", f"{service.prompt:,} tokens"), ("answer", f"{service.answer:,} tokens"),
        ("batch", str(service.batch)), ("weights", service.held), ("products", service.workload.dtype),
        ("tensor", str(service.tensor)) if service.tensor > 1 else ("", ""), ("copies", str(copies)) if copies > 1 else ("", ""),
    ]  # fmt: skip
    return tuple((name, value) for name, value in found if name)


def _users(question: ServingQuestion, service: Service, copies: int) -> tuple[tuple[str, int | None], ...]:
    """How many answers a copy can write at once, by what stops it."""
    memory, speed = service.streams_in_memory(), service.streams_at(question.speed)
    each = None if memory is None or speed is None else min(memory, speed)
    devices = "a device" if service.tensor == 1 else f"{service.tensor} devices"
    found: list[tuple[str, int | None]] = [
        (f"that fit in the memory of {devices}, {service.context:,} tokens each", memory),
        (f"that still get {question.speed:g} tokens/s each", speed),
        ("so at once, of one copy", each),
    ]
    if copies > 1:
        found.append((f"of all {copies} copies", None if each is None else each * copies))
    return tuple(found)


def _doubts(price: Quantity) -> tuple[str, ...]:
    lines = ["a server's own overhead (scheduling, sampling, HTTP) comes on top"]
    lines.append(f"price {plus_minus(price)}" if price.known else f"price is unknown: {price.source}")
    return tuple(lines)


def _next(question: ServingQuestion, service: Service, short: float | None, device: Device) -> str:
    """What would make it fit, or what a fuller batch would give."""
    if short:
        fitting = service.streams_in_memory()
        if fitting:
            return f"--batch {fitting} is the most that fits"
        if question.weights not in ("int8", "int4"):
            return "--weights int4 needs a quarter of the memory, or cut the model over more devices with --count"
        return (
            f"more devices (--count): the weights alone are {gib(service.workload.parameters.weight_bytes)}"
        )
    memory, speed = service.streams_in_memory(), service.streams_at(question.speed)
    most = None if memory is None or speed is None else min(memory, speed)
    if most is not None and most > service.batch and device.hardware is not None:
        cheaper = service.token(most) / most / (service.token() / service.batch)
        return f"--batch {most} makes a token {1 / cheaper:.1f} times cheaper; each reader still gets {1 / service.token(most):.0f} tokens/s"
    return ""
