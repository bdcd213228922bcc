"""Training on several processes: data, tensor, sequence, context and pipeline parallelism."""
