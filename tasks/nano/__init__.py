"""Procedurally generated programs and documents: what the nano base is pre-trained on."""
