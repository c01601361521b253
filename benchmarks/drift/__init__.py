"""Drift: what it costs to follow a stream and what is seen in it, beside the libraries a user could pick."""
