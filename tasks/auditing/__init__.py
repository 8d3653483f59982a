"""The audit of what a ledger's rows mean: drawn, asked, rewarded and learned as the config and the seeds say."""
