"""Splits, resampling, permutation, correction and verdicts."""
