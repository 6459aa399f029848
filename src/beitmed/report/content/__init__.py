"""What a report says: groups of runs, their evidence, its tables, figures and sentences."""
