"""Who may come in, and by which tokens, keys and certificates."""
