"""The Open Inference Protocol, Triton's extensions and TF Serving's predict over HTTP."""
