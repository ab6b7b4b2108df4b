"""Artefacts on disk: arrays, tables, weights, recordings."""
