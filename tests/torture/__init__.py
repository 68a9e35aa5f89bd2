"""Kills a sweep at any moment, gives the same command again until it is finished, and compares with an undisturbed one.

``make torture KILLS=100`` runs it for long and writes ``reports/torture.md``; three kills are in ``make test``.
"""
