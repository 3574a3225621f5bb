"""Quantize networks to 8 bits."""
