"""The meshes that no bot may join: rules, file, and the list that the service keeps."""
