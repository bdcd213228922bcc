"""Training checkpoints: torch's distributed checkpoint over safetensors and JSON, whole or not at all.

``checkpoint-<step>/`` holds

- ``rank-<n>.safetensors``: what rank n wrote of the tensors (weights, optimizer, its generators), in master precision;
- ``rank-<n>.json``: what only rank n has beside tensors (generators of Python and numpy);
- ``layout.json``: shape and dtype of every tensor, and which part of it lies in which file;
- ``state.json``: position, totals, fingerprint of the run;
- ``complete.json``: written last, with size and SHA-256 of all the others. Without it nothing here counts.

Planning, sharding and resharding are torch's (``torch.distributed.checkpoint``), so a checkpoint saved under one layout
loads under another. Torch's own file format is not used: its metadata are a pickle, and nothing here is ever unpickled.
"""
