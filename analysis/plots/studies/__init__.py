"""Figures of whole studies: hypervolume over trials, best against last, importance."""
