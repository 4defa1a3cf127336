"""Programs over the editor: galleries, sweeps."""
