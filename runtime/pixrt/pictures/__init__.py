"""Bytes to working pixels and back. May import options and bundles."""
