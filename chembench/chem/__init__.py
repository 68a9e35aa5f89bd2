"""Molecules: SMILES, scaffolds, tokens, descriptors."""
