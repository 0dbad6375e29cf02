"""Algorithm bundles that ship with us, each a folder, and how bundles are loaded and results opened."""
