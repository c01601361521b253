"""What the rows of a version look like, beside what they looked like in training."""

from fastserve.monitoring.options import MonitoringOptions
from fastserve.monitoring.profile import CategoryFeature, NumberFeature, Profile, TensorProfile, read_profile
from fastserve.monitoring.recorder import Recorder

__all__ = [
    "CategoryFeature",
    "MonitoringOptions",
    "NumberFeature",
    "Profile",
    "Recorder",
    "TensorProfile",
    "read_profile",
]
