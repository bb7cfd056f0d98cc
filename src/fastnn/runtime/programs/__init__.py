"""Programs of a model, made of its layers and what it is compiled for."""
