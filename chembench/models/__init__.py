"""Architectures, sizes, heads and adapters."""
