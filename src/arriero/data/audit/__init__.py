"""The audit of a corpus: its ledger, the account of what was dropped, samples, traces back to the raw bytes."""
