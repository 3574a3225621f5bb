"""Networks: their architectures, training, and the bundles they leave behind."""
