"""The only caller of the Kubernetes API. Reads are in ``client`` and ``watch``; every mutation passes ``gateway`` with its guards."""
