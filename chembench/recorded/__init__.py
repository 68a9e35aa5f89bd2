"""Recorded results as a backend: read, checked, and looked up in the place of carrying an item out."""
