"""Training by transformers' Trainer, which nothing else imports."""
