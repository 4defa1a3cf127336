"""The HTTP server: interfaces, admission, and the process that owns the device."""
