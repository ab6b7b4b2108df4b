"""Fusion of MEG in time with fMRI in space, and the part of it that models explain."""
