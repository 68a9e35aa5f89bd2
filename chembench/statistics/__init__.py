"""What replicates can say: pure functions from scores to intervals, comparisons and effects."""
