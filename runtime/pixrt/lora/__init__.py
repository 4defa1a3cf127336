"""Other weights in the networks of a bundle. May import backends and bundles."""
