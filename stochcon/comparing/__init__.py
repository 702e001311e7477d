"""Two models side by side on somebody's own images, so that changing the model is a decision."""
