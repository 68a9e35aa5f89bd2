"""The training core: torch, transformers, numpy and pydantic only."""
