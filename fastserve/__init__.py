"""fastserve: serve ONNX models over the Open Inference Protocol, fast, from a registry directory."""

__version__ = "0.1.0"
