"""BERT (Devlin et al., arXiv 1810.04805): a post-norm encoder with learned positions and two segments."""

from __future__ import annotations

from typing import Any

from arriero.models.encoder_config import EncoderConfig
from arriero.models.family import Family
from arriero.models.layers.activation_names import ours_of, theirs_of

KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "context_length": "max_position_embeddings",
    "n_segments": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
    "init_std": "initializer_range",
    "dropout": "hidden_dropout_prob",
    "pad_id": "pad_token_id",
    "tie_embeddings": "tie_word_embeddings",
    "problem": "problem_type",
}
DEFAULTS = {
    "vocab_size": 30522,
    "d_model": 768,
    "n_layers": 12,
    "n_heads": 12,
    "d_ff": 3072,
    "context_length": 512,
    "n_segments": 2,
    "dropout": 0.1,
}
FIXED = {
    "attention": "full",
    "positions": "absolute",
    "embedding_projection": "none",
    "n_groups": None,
    "group_size": 1,
    "conv_kernel": 0,
    "pooler_activation": "tanh",
    "dense_classifier": False,
    "mask_embeddings": False,
    "mlm_activation": None,
    "soft_labels": False,
}
LAYER = "encoder.layer.{}."
BLOCK = {
    "blocks.{}.attention.q_proj": LAYER + "attention.self.query",
    "blocks.{}.attention.k_proj": LAYER + "attention.self.key",
    "blocks.{}.attention.v_proj": LAYER + "attention.self.value",
    "blocks.{}.attention.o_proj": LAYER + "attention.output.dense",
    "blocks.{}.attention_norm": LAYER + "attention.output.LayerNorm",
    "blocks.{}.feed_forward.up_proj": LAYER + "intermediate.dense",
    "blocks.{}.feed_forward.down_proj": LAYER + "output.dense",
    "blocks.{}.feed_forward_norm": LAYER + "output.LayerNorm",
}
EMBEDDING = {
    "embedding.word": "embeddings.word_embeddings",
    "embedding.positions": "embeddings.position_embeddings",
    "embedding.segment": "embeddings.token_type_embeddings",
    "embedding.norm": "embeddings.LayerNorm",
}
MASKED_LM = {
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.decoder": "cls.predictions.decoder",
    "head.bias": "cls.predictions.bias",
}
HEADS = {
    "masked_lm": MASKED_LM,
    "pretraining": {**MASKED_LM, "head.pair": "cls.seq_relationship"},
    "next_sentence": {"head.pair": "cls.seq_relationship"},
    "sequence_classification": {"head.out": "classifier"},
    "token_classification": {"head.out": "classifier"},
    "multiple_choice": {"head.out": "classifier"},
    "question_answering": {"head.out": "qa_outputs"},
}


def architectures(name: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """transformers' classes of a family called ``name`` there, but for the tasks ``without``."""
    found = {
        "Model": "none",
        "ForMaskedLM": "masked_lm",
        "ForPreTraining": "pretraining",
        "ForSequenceClassification": "sequence_classification",
        "ForTokenClassification": "token_classification",
        "ForMultipleChoice": "multiple_choice",
        "ForQuestionAnswering": "question_answering",
    }
    return {name + ending: task for ending, task in found.items() if task not in without}


def read_common(values: dict[str, Any]) -> dict[str, Any]:
    """What all encoder families say alike and no table can: activation, labels, the classifier's dropout."""
    labels = values.get("id2label")
    found: dict[str, Any] = {
        "activation": ours_of(values.get("hidden_act") or "gelu"),
        "n_labels": len(labels) if labels else values.get("num_labels", 2),
        "classifier_dropout": values.get("classifier_dropout"),
    }
    if labels:
        names = tuple(str(labels[key]) for key in sorted(labels, key=int))
        found["label_names"] = None if names == _numbered(len(names)) else names
    return found


def write_common(config: EncoderConfig) -> dict[str, Any]:
    """The keys that :func:`read_common` reads."""
    names = config.label_names or _numbered(config.n_labels)
    return {
        "hidden_act": theirs_of(config.activation),
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "classifier_dropout": config.classifier_dropout,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": config.pad_id,
    }


def _numbered(count: int) -> tuple[str, ...]:
    """The names that transformers gives to labels without names."""
    return tuple(f"LABEL_{index}" for index in range(count))


def _settle(config: EncoderConfig, names: set[str]) -> EncoderConfig:
    """A body may have been saved without its pooler, which its config.json does not say."""
    if config.task == "none" and not any("pooler" in name.split(".") for name in names):
        return config.model_copy(update={"body_pooler": False})
    return config


FAMILY = Family(
    name="bert",
    model_type="bert",
    config=EncoderConfig,
    network="arriero.models.encoder:Encoder",
    architectures={**architectures("Bert"), "BertForNextSentencePrediction": "next_sentence"},
    keys=KEYS,
    defaults=DEFAULTS,
    fixed=FIXED,
    required={"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"},
    modules={**EMBEDDING, **BLOCK, "pooler.dense": "pooler.dense"},
    prefix="bert",
    head_modules=HEADS,
    # published folders hold position_ids, and all that pre-training left whatever the task
    ignored=("position_ids", "pooler.dense.weight", "pooler.dense.bias", "seq_relationship.weight",
             "seq_relationship.bias", "predictions.decoder.weight", "predictions.decoder.bias"),
    twins={"predictions.bias": "predictions.decoder.bias"},
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    read=read_common,
    write=write_common,
    settle=_settle,
    cite="Devlin et al. 2018, arXiv 1810.04805",
)  # fmt: skip
