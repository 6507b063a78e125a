"""StyleGAN2-ADA's generator and its file format."""
