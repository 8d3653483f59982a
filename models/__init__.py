"""Language models: policies, engines that sample from them, the update, and the nano base."""
