"""What clients speak: OpenAI's API, jobs, KServe, AUTOMATIC1111, Hugging Face. Each becomes orders, and answers."""
