"""The commands of the command line, grouped by what a user is doing; each imports what it needs when it runs."""
