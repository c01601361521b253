"""Front ends: thin translators between a protocol and the data plane; they never import each other."""
