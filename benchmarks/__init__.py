"""Benchmarks: what each part costs, against what a user could pick instead."""
