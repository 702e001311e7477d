"""The HTTP service: images in, codes and neighbours out."""
