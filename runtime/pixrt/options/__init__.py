"""Every setting once: type, range, help, parser, JSON schema. May import errors."""
