"""The phantom: recordings with planted truth, written as BIDS."""
