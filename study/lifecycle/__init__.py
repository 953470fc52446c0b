"""The stages of a study: launch, resume, background, finish, publish, sync."""
