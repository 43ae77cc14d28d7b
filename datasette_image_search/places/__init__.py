"""The places of images: country, state and city by latitude and longitude."""
