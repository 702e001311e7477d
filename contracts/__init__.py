"""What every part agrees on: codes, the model file, pixels and errors."""
