"""Futures and callbacks over the compiled queue: who runs with whom, when, and on which thread."""

from fastserve.batching.batcher import Batcher
from fastserve.batching.latency import LatencyModel
from fastserve.batching.options import BatchingOptions
from fastserve.batching.target import Target, Watch, Watcher
from fastserve.batching.traced import TracedBatcher

__all__ = [
    "Batcher",
    "BatchingOptions",
    "LatencyModel",
    "Target",
    "TracedBatcher",
    "Watch",
    "Watcher",
]
