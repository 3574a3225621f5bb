"""Writers of data sets: Hugging Face, Label Studio, FiftyOne, COCO and folders, besides tables."""
