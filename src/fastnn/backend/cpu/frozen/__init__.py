"""Networks and learners as plain arrays, for users' compiled code and C."""
