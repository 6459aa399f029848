"""What finished runs say about images without labels."""
