"""What is wrong with lists or chips before anybody trains on them: repetitions, leaks between splits, conflicts."""
