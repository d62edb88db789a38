"""From words to pictures: networks and mathematics joined, one loop for every kind of picture."""
