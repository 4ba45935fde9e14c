"""Benchmarks: each prints ours beside the peers, from one run on one machine. Nothing here is a test."""
