"""Preprocessing of recordings."""
