"""Encoding alignment: how well the features of a network predict held-out responses."""
