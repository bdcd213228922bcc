"""Small encoders of transformers' with random weights, and the same inputs for both sides."""

from __future__ import annotations

from typing import Any

import torch

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 30,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
    "num_labels": 3,
}
TERMS = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "bert relu, one segment": ("Bert", {"hidden_act": "relu", "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "albert": ("Albert", {"embedding_size": 14}),
    "albert groups": ("Albert", {"embedding_size": 30, "num_hidden_layers": 5, "num_hidden_groups": 2,
                                "inner_group_num": 2}),
    "deberta": ("Deberta", {**TERMS, "position_biased_input": False}),
    "deberta short span": ("Deberta", {**TERMS, "max_relative_positions": 5, "type_vocab_size": 2, "legacy": False}),
    "deberta c2p": ("Deberta", {"relative_attention": True, "pos_att_type": "c2p", "embedding_size": 14}),
    "deberta plain": ("Deberta", {}),
    "deberta v2": (
        "DebertaV2",
        {**TERMS, "position_buckets": 6, "max_relative_positions": 30, "norm_rel_ebd": "layer_norm",
         "share_att_key": True, "position_biased_input": False, "pos_att_type": "p2c|c2p"},
    ),
    "deberta v2 conv": (
        "DebertaV2",
        {**TERMS, "conv_kernel_size": 3, "conv_groups": 2, "conv_act": "gelu", "position_buckets": 8, "legacy": False},
    ),
    "deberta v2 p2c": ("DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c"], "type_vocab_size": 2}),
    "longformer": ("Longformer", {"attention_window": [4, 8, 4], "max_position_embeddings": 60}),
    "longformer one window": ("Longformer", {"attention_window": 6, "type_vocab_size": 1, "max_position_embeddings": 60}),
}  # fmt: skip
TASKS = {
    "none": "Model",
    "masked_lm": "ForMaskedLM",
    "pretraining": "ForPreTraining",
    "next_sentence": "ForNextSentencePrediction",
    "sequence_classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "multiple_choice": "ForMultipleChoice",
    "question_answering": "ForQuestionAnswering",
}


def make_theirs(transformers: Any, name: str, task: str, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers' with every tensor random (biases and norms too), in evaluation mode."""
    prefix, special = FAMILIES[name]
    values = {**SHAPE, **special, **changes}
    if task in ("question_answering", "pretraining"):
        values["num_labels"] = 2
    torch.manual_seed(seed)
    model = getattr(transformers, prefix + TASKS[task])(
        getattr(transformers, prefix + "Config")(**values)
    ).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name.lower() and parameter_name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif parameter.dim() == 1:
                parameter.normal_(0.0, 0.3)
    return model


def sound(transformers: Any, name: str, task: str) -> bool:
    """False for DeBERTa's newer masked-LM head in transformers 4, which ties its inner layer to the table of words."""
    old = int(transformers.__version__.split(".")[0]) < 5
    return not (old and task == "masked_lm" and FAMILIES[name][1].get("legacy") is False)


def cases() -> list[tuple[str, str]]:
    """Every family with every head that transformers has for it."""
    found = []
    for name, (prefix, _) in FAMILIES.items():
        for task in TASKS:
            if task == "pretraining" and prefix not in ("Bert", "Albert"):
                continue
            if task == "next_sentence" and prefix != "Bert":
                continue
            if task == "multiple_choice" and prefix == "Deberta":
                continue
            found.append((name, task))
    return found


def make_inputs(
    model: Any, task: str, batch: int, length: int, padding: str, seed: int = 1
) -> dict[str, torch.Tensor]:
    """ids, attention_mask, segments (by our names); padding is none, right, left or holes."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    shape = (batch, 3, length) if task == "multiple_choice" else (batch, length)
    ids = torch.randint(5, config.vocab_size, shape, generator=generator)
    if config.model_type == "longformer" and task in ("multiple_choice", "question_answering"):
        ids[..., [2, 3, length - 2]] = config.sep_token_id
    inputs = {"ids": ids}
    if config.type_vocab_size > 1:
        inputs["segments"] = torch.randint(0, config.type_vocab_size, shape, generator=generator)
    if padding == "none":
        return inputs
    mask = torch.ones(shape, dtype=torch.long)
    rows, masks = ids.view(-1, length), mask.view(-1, length)
    for row in range(len(masks)):
        cut = (row * 3 + 1) % (length - 5) if length > 6 else row % 2
        if padding == "right" and cut:
            masks[row, -cut:] = 0
        elif padding == "left":
            masks[row, :cut] = 0
        elif padding == "holes":
            masks[row] = (torch.rand(length, generator=generator) > 0.3).long()
            masks[row, 0] = 1
    if config.model_type != "longformer" or task not in ("multiple_choice", "question_answering"):
        rows[masks == 0] = config.pad_token_id  # there the separators have to stay
    inputs["attention_mask"] = mask
    return inputs


def make_labels(model: Any, task: str, ids: torch.Tensor, seed: int = 2) -> Any:
    """Labels as ours take them."""
    generator = torch.Generator().manual_seed(seed)
    batch, length = ids.shape[0], ids.shape[-1]
    draw = lambda high, *shape: torch.randint(0, high, shape, generator=generator)  # noqa: E731
    some = torch.where(torch.rand(ids.shape, generator=generator) < 0.5, -100, 0)
    if task == "masked_lm":
        return torch.where(some < 0, some, draw(model.config.vocab_size, *ids.shape))
    if task == "pretraining":
        return torch.where(some < 0, some, draw(model.config.vocab_size, *ids.shape)), draw(2, batch)
    if task == "sequence_classification":
        return draw(model.config.num_labels, batch)
    if task == "token_classification":
        return torch.where(some < 0, some, draw(model.config.num_labels, *ids.shape))
    if task in ("next_sentence", "multiple_choice"):
        return draw(2, batch)
    return draw(length + 2, batch), draw(length, batch)


def run_theirs(model: Any, task: str, inputs: dict[str, torch.Tensor], labels: Any = None) -> tuple[Any, Any]:
    """Outputs as ours give them, and the loss."""
    names = {"ids": "input_ids", "segments": "token_type_ids", "positions": "position_ids",
             "global_attention": "global_attention_mask"}  # fmt: skip
    arguments: dict[str, Any] = {names.get(name, name): value for name, value in inputs.items()}
    if labels is not None:
        if task == "pretraining":
            second = "sentence_order_label" if model.config.model_type == "albert" else "next_sentence_label"
            arguments |= {"labels": labels[0], second: labels[1]}
        elif task == "question_answering":
            arguments |= {"start_positions": labels[0], "end_positions": labels[1]}
        else:
            arguments["labels"] = labels
    with torch.no_grad():
        out = model(**arguments)
    if task == "none":
        return out.last_hidden_state, None
    if task == "pretraining":
        second = out.sop_logits if "sop_logits" in out else out.seq_relationship_logits
        return (out.prediction_logits, second), out.loss
    if task == "question_answering":
        return (out.start_logits, out.end_logits), out.loss
    return out.logits, out.loss
