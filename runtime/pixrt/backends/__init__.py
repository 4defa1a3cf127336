"""One network, bound and run. May import bundles and options."""
