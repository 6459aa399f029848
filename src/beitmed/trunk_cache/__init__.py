"""What the frozen trunk gives for an image, computed once and kept on disk."""
