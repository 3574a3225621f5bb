"""Network architectures: the CNN, the transfer head and the calibrated output."""
