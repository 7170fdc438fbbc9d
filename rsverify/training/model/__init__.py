"""What is trained: a small transformer and its pretrained base, the text it reads, tasks on any model."""
