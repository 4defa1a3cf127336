"""The server on several machines: the same application and scheduler, as replicas of Ray Serve behind a gate."""
