"""The special tokens, and the chat template that uses them."""

from __future__ import annotations

BOS = "<|begin_of_text|>"
EOS = "<|end_of_text|>"
PAD = "<|pad|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

SPECIAL_TOKENS = (BOS, EOS, PAD, TURN_START, TURN_END)
"""In the order of their ids, 0 to 4."""

END_OF_TURN = (TURN_END, "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""Names that end a turn in the chat formats in use (ChatML, Llama 3, Gemma, Phi 3), ours first."""

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "bos_token": (BOS, "<s>", "<bos>"),
    "eos_token": (EOS, "</s>", "<eos>", "<|endoftext|>"),
    "pad_token": (PAD, "<pad>", "[PAD]"),
    "unk_token": ("<unk>", "[UNK]"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What special tokens are called when tokenizer_config.json does not say it."""

ROLES = ("system", "user", "assistant")

TOOL = "tool"
"""The role of what a called function gave."""

CHATML_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{- raise_exception('unknown role ' + message['role']) }}"
    "{%- endif %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] | trim + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}"
    "{{- message['content'] + '<|im_end|>' }}"
    "{%- endif %}"
    "{{- '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""ChatML. Answers are trimmed: a leading newline would melt into one token with the header's newline, and the
ids that a model is trained on would no longer start with the ids of the prompt that it is served."""
