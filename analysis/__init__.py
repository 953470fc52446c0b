"""Result files, objectives, fronts, tables and figures of a study. Imports nothing else of this project."""
