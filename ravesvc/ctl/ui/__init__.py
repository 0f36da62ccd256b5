"""What ravectl(1) prints, and how."""
