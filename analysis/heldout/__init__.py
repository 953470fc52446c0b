"""What was measured on the test split, for whom, how often; the winner's curse and seeds."""
