"""What the report says first: its numbers, its two charts, and answers to what readers ask."""
