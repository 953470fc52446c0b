"""`python -m study` is the command `robust-study`."""

from study.cli import main

main()
