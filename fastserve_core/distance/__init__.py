"""How far a window of live traffic lies from the reference, from integer counts alone."""

from fastserve_core.distance.measures import Distances, distances

__all__ = ["Distances", "distances"]
