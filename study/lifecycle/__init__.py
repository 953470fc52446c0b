"""A study from its first check to its last figure: launch, resume, background, finish, publish, sync."""
