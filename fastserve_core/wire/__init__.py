"""Bytes of the protocol to and from typed buffers: request heads, tensors in, responses out."""
