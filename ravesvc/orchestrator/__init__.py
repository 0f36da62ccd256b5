"""The parent: discovers meshes, plans, starts and stops their units, and learns from them."""
