"""One process beside the workers: gathers their statistics, keeps them, and shows them."""
