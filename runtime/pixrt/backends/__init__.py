"""The backends: one module each behind the `Engine` protocol, imported only when chosen."""
