"""Counts of tensors that merge: what drift is measured from."""
