"""Quality up-weighting: each document is taken as often as a figure of the ledger says."""
