"""The audit: raw samples of random minutes are asked for, replayed, and compared with what was signed."""
