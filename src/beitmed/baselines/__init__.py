"""What a result is held against: other methods, under the same evaluation."""
