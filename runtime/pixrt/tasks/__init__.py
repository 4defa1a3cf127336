"""A job becomes a checked request, and that what the loop is conditioned on. May import core, pictures and lora."""
