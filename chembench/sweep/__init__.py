"""Spaces, plans, the ledger, studies and runners."""
