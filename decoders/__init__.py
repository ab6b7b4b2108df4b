"""Corticode: brain decoding and neural alignment, from a BIDS folder to an HTML report."""
