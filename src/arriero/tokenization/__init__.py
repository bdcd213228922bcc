"""Tokenization: training a tokenizer, text to ids and back, chat templates, decoding streams."""
