"""What runs when: flows, config, command line."""
