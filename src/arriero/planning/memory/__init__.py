"""What lives in a training step, traced from the run's own code on fake tensors."""
