"""Where recordings and stimuli come from: BIDS, the registry, adapters; all end in a manifest."""
