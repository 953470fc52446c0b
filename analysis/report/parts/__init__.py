"""What the pages are made of: HTML, charts, evaluation cards."""
