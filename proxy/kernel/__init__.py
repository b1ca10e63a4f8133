"""What everything else may use, plugins too: names, contracts and data. It imports nothing else of ours."""
