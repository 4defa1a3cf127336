"""The web page: static files, and how they are answered. May import only the standard library."""
