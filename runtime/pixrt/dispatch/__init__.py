"""Whose turn it is on a device: pure decisions, without a clock, a thread or an array."""
