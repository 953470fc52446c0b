"""Studies: config, searcher, driver, tracking and the command line."""
