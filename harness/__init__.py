"""mailgale: load and chaos testing of e-mail platforms on Kubernetes. Start reading at harness/DESIGN.md."""

__version__ = "0.1.0"
