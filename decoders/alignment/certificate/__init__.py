"""The statistical certificate: the study's own inference, run on simulated studies of known truth."""
