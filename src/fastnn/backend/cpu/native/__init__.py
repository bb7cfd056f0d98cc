"""Functions that run programs and are no ops: the executor, epochs, the team, frozen networks, learners."""
