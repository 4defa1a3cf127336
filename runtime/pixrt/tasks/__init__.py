"""Jobs become checked requests, and those what the loop is conditioned on. May import core, pictures and lora."""
