"""Data: reading and curating documents, token shards, packed windows, conversations."""
