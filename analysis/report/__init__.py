"""One offline HTML page about a study."""
