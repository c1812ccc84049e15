"""Container engine, node image, kind, and contexts of other clusters; each way ends in a ``model.target.Target``."""
