"""Learning algorithms, each a Learner."""
