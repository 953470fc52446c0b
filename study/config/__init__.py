"""What a study's YAML may say, how it is read and checked, and which changes a resume allows."""
