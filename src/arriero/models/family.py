"""What is special about one family's files: its ``config.json`` and its tensors' names, as tables.

A family is data. ``models.hf_config`` turns a configuration into ``config.json`` and back with these tables,
``models.hf_names`` does the same with the tensors' names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from arriero.models.config import ModelConfig


@dataclass(frozen=True)
class Fused:
    """Queries, keys and values that a family keeps in one matrix; stands for our q_proj, k_proj and v_proj.

    Attributes:
        module: their name of the matrix.
        layout: ``concatenated``: all queries, then all keys, then all values; ``grouped``: for each key head its query
            heads, its keys, its values.
    """

    module: str
    layout: Literal["concatenated", "grouped"] = "concatenated"


Modules = Mapping[str, str | Fused]
"""Our module -> theirs."""


@dataclass(frozen=True)
class Family:
    """One family's tables. "Ours" are names in Arriero, "theirs" names in Hugging Face's folders.

    Attributes:
        name: ours; equal to ``config.family``.
        model_type: theirs, in ``config.json``.
        config: class of the configuration.
        network: ``module:class`` of the network; imported when it is needed.
        architectures: their class name -> our task; the first is what a saved folder says. Task "none" is the body
            alone, whose files have no prefix.
        keys: our field -> their key.
        defaults: our field -> the value that transformers takes where the key is absent.
        fixed: our field -> the value that every model of the family has.
        required: their key -> the only value that Arriero has; another is refused.
        modules: our module -> theirs, numbers written as ``{}``; weights and biases keep their last name.
        modules_of: (config) -> further modules, whose names depend on the configuration.
        parameters: our tensor -> theirs, for tensors that no module's table names.
        prefix: of the body's tensors in files of models with a head.
        head_modules: task -> {our module or tensor -> theirs} outside the prefix.
        head_variant: (config) -> what is added to the task as the key in ``head_modules``, where a family has files of
            two kinds.
        transposed: our last module names whose weight is stored [in, out] (GPT-2's Conv1D).
        ignored: endings of stored tensors that follow from the configuration.
        renamed: ending of a tensor's name in old files -> today's.
        twins: ending of a stored tensor's name -> that of a second tensor, which is the same where a file lacks it.
        optional: stored tensors that may be missing, because the network makes them as they then are.
        read: (config.json) -> our fields, for what a table can't say.
        write: (config) -> keys of config.json, for what a table can't say.
        settle: (config, names of the stored tensors) -> config, for what only the tensors tell.
        cite: paper or source.
    """

    name: str
    model_type: str
    config: type[ModelConfig]
    network: str
    architectures: Mapping[str, str]
    keys: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    modules: Modules = field(default_factory=dict)
    modules_of: Callable[[Any], Mapping[str, str]] = lambda config: {}
    parameters: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    head_modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    head_variant: Callable[[Any], str] = lambda config: ""
    transposed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    twins: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    read: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: {}
    write: Callable[[Any], dict[str, Any]] = lambda config: {}
    settle: Callable[[Any, set[str]], Any] = lambda config, names: config
    cite: str = ""

    @property
    def shared(self) -> bool:
        """Whether transformers reads the family's folders; those of a type of Arriero's own, only Arriero does."""
        return not self.model_type.startswith("arriero_")

    def build(self, config: ModelConfig) -> Any:
        """The network of a configuration; its weights are whatever memory holds."""
        module, _, name = self.network.partition(":")
        return getattr(importlib.import_module(module), name)(config)

    def task_of(self, config: ModelConfig) -> str:
        """Our task of a configuration: its field ``task`` where it has one."""
        return getattr(config, "task", next(iter(self.architectures.values())))

    def heads_of(self, config: ModelConfig) -> Mapping[str, str]:
        """Names of the head's modules and tensors for a configuration: ours -> theirs."""
        return self.head_modules.get(self.task_of(config) + self.head_variant(config), {})

    def architecture_of(self, config: ModelConfig) -> str:
        """Their class for a configuration's task."""
        task = self.task_of(config)
        return next(name for name, found in self.architectures.items() if found == task)
