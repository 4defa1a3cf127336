"""Pictures advance step by step. May import backends and maths."""
