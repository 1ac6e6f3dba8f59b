"""What tests share. Import it as `support`."""
