"""tokenizer_config.json: the names of the special tokens and the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError
from arriero.tokenization.special import BOS, CHATML_TEMPLATE, EOS, PAD

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def default_config() -> dict[str, Any]:
    """`tokenizer_config.json` of a tokenizer that Arriero trained."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHATML_TEMPLATE,
    }


def config_of(names: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """tokenizer_config.json of a tokenizer with these special tokens."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **more,
    }


def read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json of a folder (empty when there is none), with the chat template that lies beside it."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        config = {}
    except (ValueError, UnicodeDecodeError):
        raise ArrieroError(f"{path} is not JSON") from None
    if not isinstance(config, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    template = folder / TEMPLATE_FILE  # newer transformers put the template here
    if "chat_template" not in config and template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return config
