"""Pretrained networks: their architectures, weights and embeddings."""
