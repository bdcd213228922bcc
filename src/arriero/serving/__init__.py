"""The OpenAI-compatible server with its chat page, the chat in the terminal, and a small client."""
