"""Learning rules, their features and what they moved."""
