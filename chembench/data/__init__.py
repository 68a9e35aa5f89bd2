"""Corpora, tasks, splits, shards and batches."""
