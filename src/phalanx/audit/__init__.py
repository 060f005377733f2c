"""What an ensemble defence is worth: its published-style figure beside the worst that was found."""
