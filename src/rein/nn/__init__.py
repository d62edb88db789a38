"""Networks: U-Net, autoencoder, text tower, discriminator.

No files, no noise schedule, no randomness but initialisation.
"""
