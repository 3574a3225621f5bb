"""Write datasets for Hugging Face, Label Studio, FiftyOne and COCO, or as folders, in addition to tables."""
