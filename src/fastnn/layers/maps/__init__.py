"""Layers of images, signals and volumes, whose samples are maps of one to three axes and channels."""
