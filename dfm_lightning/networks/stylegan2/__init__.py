"""StyleGAN2-ADA's generator, its file format."""
