"""Tag over HTTP: the API, its limits, batching and metrics."""
