"""Who comes in, how much, and what came of it: before the application, for every request."""
