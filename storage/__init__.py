"""The ledger: every task, rollout, reward and checkpoint of a run, sealed stage by stage, asked by SQL."""
