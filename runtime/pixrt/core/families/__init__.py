"""What differs between model families: how texts become embeddings, what stands beside latents, how they are scaled."""
