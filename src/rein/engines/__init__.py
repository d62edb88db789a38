"""Networks made fast for one device. What they compute stays the same, to rounding."""
