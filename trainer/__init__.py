"""From images to a StochCon model file: model, training, evaluation, export."""
