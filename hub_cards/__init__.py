"""Templates of the cards that stand on the Hub."""
