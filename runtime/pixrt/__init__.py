"""pixrt: instruction-guided image editing."""
