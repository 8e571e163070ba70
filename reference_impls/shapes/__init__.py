"""What of the Solutions of a task decides how fast they are, by task (`suite.protocol.Shapes`)."""
