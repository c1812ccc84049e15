"""The mail stack under test: images, rendering, applying, readiness, isolation."""
