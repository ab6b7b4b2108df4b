"""Stimuli on their time axis, pictures, and their control features."""
