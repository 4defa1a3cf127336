"""Pure arrays: no I/O, no device. May import options."""
