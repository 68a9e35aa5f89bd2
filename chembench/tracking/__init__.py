"""Projections of the ledger into trackers."""
