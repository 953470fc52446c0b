"""Result files: columns, reading, writing, compacting, several studies as one table."""
