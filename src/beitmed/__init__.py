"""Transfer learning for medical image classification, with its uncertainty."""

__version__ = "0.1.0"
