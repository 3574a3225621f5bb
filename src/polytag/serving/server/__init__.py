"""Tag photos over HTTP. This package contains the API, its limits, batching and metrics."""
