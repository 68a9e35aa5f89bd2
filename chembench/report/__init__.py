"""Rows, statistics and boards."""
