"""What is estimated of single networks and images: radii, distances, smoothness, the theorem's classifier."""
