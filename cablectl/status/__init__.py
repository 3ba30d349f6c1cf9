"""Cable and facts become a state: up or not, and each reason."""
