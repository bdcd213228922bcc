"""Model families, their layers, and checkpoints in Hugging Face folders."""
