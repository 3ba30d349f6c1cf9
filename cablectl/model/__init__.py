"""What a file describes: endpoints and wishes, a cable seen from one end, the whole network."""
