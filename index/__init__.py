"""Durable store of codes and their Hamming neighbours."""
