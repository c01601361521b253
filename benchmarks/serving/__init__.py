"""The parts of http_bench; not named `http`, which would hide the standard library's from a script here."""
