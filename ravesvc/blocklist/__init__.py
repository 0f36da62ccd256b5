"""The meshes that are left alone: rules, file, and the list that the service keeps."""
