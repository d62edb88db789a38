"""Captioned pictures to train and measure on."""
