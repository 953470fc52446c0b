"""A study's config: its schema, how it is read and checked, and which changes `resume` allows."""
