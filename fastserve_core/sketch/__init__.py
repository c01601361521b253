"""Counts of tensors that merge: what drift is measured from."""

from fastserve_core.sketch.category import CategorySketch
from fastserve_core.sketch.number import NumberSketch

__all__ = ["CategorySketch", "NumberSketch"]
