"""A collection as a picture: its images as points, their colours, and what is drawn of both."""
