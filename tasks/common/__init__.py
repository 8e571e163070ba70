"""What tasks of any kind share: cases, intervals, scores by class and by group, and what the data dictate."""
