"""What is written in and beside a picture, about how it was made and what it shows; decodes no pixels."""
