"""Train Keras networks: batches, losses, optimizer, the training loop, fine-tuning."""
