"""Systems of images and texts, one recipe each."""
