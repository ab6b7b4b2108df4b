"""Representational similarity: RDMs, comparators, noise ceilings and inference."""
